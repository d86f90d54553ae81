#include <fmt/format.h>

#include <memory>

#include "base/json.h"
#include "cli/compress/network_flags.h"
#include "cli/verbs.h"
#include "deploy/onnx_writer.h"
#include "exec/executor.h"
#include "graph/cost.h"
#include "train/architectures.h"
#include "train/parameters.h"

namespace packlight::cli {
namespace {

struct CreateFlags {
  std::string architecture, output, input = "1x28x28", hidden = "256,128";
  int64_t classes = 10, opset = 17, seed = 0;
  double width = 1;
  bool json = false;
};

void create(const CreateFlags& flags) {
  train::ArchitectureOptions options;
  const std::vector<int64_t> input = parse_sizes("--input", flags.input, 'x', 3);
  options.channels = input[0], options.height = input[1], options.width = input[2];
  options.classes = flags.classes;
  options.width_multiplier = flags.width;
  options.hidden = parse_sizes("--hidden", flags.hidden, ',', 0);
  options.seed = static_cast<uint64_t>(flags.seed);
  graph::Graph graph = train::create_architecture(flags.architecture, options);
  deploy::OnnxOptions writing;
  writing.opset = flags.opset;
  deploy::write_onnx(graph, flags.output, writing);

  int64_t parameters = 0, macs = 0;
  for (const train::Parameter& p : train::find_parameters(graph))
    parameters += graph::element_count(graph.value(p.value)).value_or(0);
  graph::bind_input_shapes(graph, {{"input", {1, input[0], input[1], input[2]}}});
  for (const graph::Node& node : graph.nodes())
    macs += graph::multiply_accumulates(graph, node).value_or(0);
  if (flags.json) {
    const Json json = {{"output", flags.output},
                       {"architecture", flags.architecture},
                       {"parameters", parameters},
                       {"macs", macs}};
    fmt::print("{}\n", json.dump(2));
  } else {
    fmt::print("{}: {}, {} parameters, {:.2f} million multiply-accumulates a sample\n",
               flags.output, flags.architecture, parameters, static_cast<double>(macs) / 1e6);
  }
}

}  // namespace

void add_create(CLI::App& app) {
  auto flags = std::make_shared<CreateFlags>();
  CLI::App* verb =
      app.add_subcommand("create", "Write an untrained network, a student for train, as ONNX");
  verb->add_option("ARCHITECTURE", flags->architecture,
                   fmt::format("{}", fmt::join(train::architecture_names(), ", ")))
      ->required();
  verb->add_option("-o,--output", flags->output, "ONNX file to write")->required();
  verb->add_option("--input", flags->input, "CHANNELSxHEIGHTxWIDTH of the pictures")
      ->capture_default_str();
  verb->add_option("--classes", flags->classes, "outputs")->capture_default_str();
  verb->add_option("--width", flags->width,
                   "multiplies every layer's channels (resnet8, resnet20, mobilenet)")
      ->capture_default_str();
  verb->add_option("--hidden", flags->hidden, "neurons of mlp's hidden layers")
      ->capture_default_str();
  verb->add_option("--seed", flags->seed, "of the initial weights")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_option("--opset", flags->opset, "13 to 23")
      ->check(CLI::Range(13, 23))
      ->capture_default_str();
  verb->add_flag("--json", flags->json, "a report for machines on standard output");
  verb->footer(
      "Examples:\n"
      "  packlight create lenet5 -o lenet5.onnx\n"
      "  packlight create mobilenet -o student.onnx --input 3x96x96 --classes 20 --width 0.5\n");
  verb->callback([verb, flags] {
    const bool mlp = flags->architecture == "mlp", lenet = flags->architecture == "lenet5";
    refuse_idle_flags(*verb,
                      {{"--hidden", mlp, "it is of mlp"},
                       {"--width", !mlp && !lenet, "it is of resnet8, resnet20 and mobilenet"}});
    create(*flags);
  });
}

}  // namespace packlight::cli
