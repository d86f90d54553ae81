#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <vector>

#include "base/fail.h"
#include "base/json.h"
#include "cli/compress/network_flags.h"
#include "cli/compress/network_output.h"
#include "cli/compress/output.h"
#include "cli/verbs.h"
#include "deploy/gguf_writer.h"
#include "deploy/hf_writer.h"
#include "exec/evaluate.h"
#include "graph/simplify/simplify.h"
#include "import/import.h"
#include "io/hf_folder.h"

namespace packlight::cli {
namespace {

struct ExportFlags {
  std::string model, format, output;
  int64_t context = 0, opset = 17;
  bool as_is = false, opset_given = false;
  bool json = false;
};

uint64_t size_of(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) return std::filesystem::file_size(path);
  uint64_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(path)) bytes += entry.file_size();
  return bytes;
}

// What is written promises no more positions than these; a sliding window that they never leave has no effect then.
void limit_context(import::LanguageModel& model, int64_t context) {
  if (context > model.config.max_positions) {
    fail(ErrorCode::kInvalidArgument, "[export] --context {}: '{}' has {} positions", context, model.path.string(),
         model.config.max_positions);
  }
  model.config.max_positions = context;
}

// Other formats carry no checksums: damage must not pass into them.
void check_sound(const std::string& package) {
  const std::vector<std::string> damaged = io::Package::open(package).damaged_blocks();
  if (damaged.empty()) return;
  fail(ErrorCode::kCorrupt, "[export] '{}': the bytes of {} differ from their checksum", package, fmt::join(damaged, ", "));
}

// What was folded and fused, by pass.
Json simplify(import::OnnxNetwork& network) {
  Json passes = Json::object();
  graph::SimplifyOptions options;
  options.evaluate = exec::evaluate_node;
  for (const graph::PassReport& pass : graph::simplify(network.graph, options).passes) {
    if (pass.changes > 0) passes[std::string(pass.name)] = pass.changes;
  }
  return passes;
}

// A network leaves as ONNX or as a package, simplified unless it is wanted as it is.
void export_network(const ExportFlags& flags) {
  if (flags.format != "onnx" && flags.format != "plk") {
    fail(ErrorCode::kUnsupported,
         "[export] '{}' is a network: --format onnx and --format plk are what it can be written as",
         flags.model);
  }
  import::OnnxNetwork network = load_network(flags.model);
  const size_t nodes_before = network.graph.nodes().size();
  Json json = {{"output", flags.output}, {"format", flags.format}, {"nodes_before", nodes_before}};
  json["passes"] = flags.as_is ? Json::object() : simplify(network);
  NetworkOutput output{flags.output, flags.model, flags.format == "plk", Json(), flags.opset};
  output.opset_given = flags.opset_given;
  const WrittenNetwork written = write_network(network, output);
  if (written.opset) json["opset"] = *written.opset;
  json["bytes"] = written.bytes;
  json["nodes"] = network.graph.nodes().size();
  if (flags.json) {
    fmt::print("{}\n", json.dump(2));
  } else {
    fmt::print("{}: {:.1f} MB, {}{} nodes ({} in the original)\n", flags.output,
               static_cast<double>(written.bytes) / 1e6,
               json.contains("opset") ? fmt::format("opset {}, ", json["opset"].dump()) : "",
               network.graph.nodes().size(), nodes_before);
  }
}

void export_verb(const ExportFlags& flags) {
  const auto start = std::chrono::steady_clock::now();
  check_output(flags.model, flags.output);
  if (io::is_network(io::detect_model_kind(flags.model))) return export_network(flags);
  if (flags.format == "onnx" || flags.format == "plk") {
    fail(ErrorCode::kUnsupported,
         "[export] '{}' is a language model: --format gguf or hf is what it can be written as{}",
         flags.model, flags.format == "plk" ? "; 'packlight quantize' makes packages" : "");
  }
  import::LanguageModel model = import::load_language_model(flags.model);
  if (model.kind == io::ModelKind::kPackage) check_sound(flags.model);
  if (flags.context > 0) limit_context(model, flags.context);
  if (flags.format == "gguf") {
    deploy::write_gguf_model(model, flags.output);
  } else {
    deploy::write_hf_folder(model, flags.output);
  }
  const uint64_t bytes = size_of(flags.output);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (flags.json) {
    const Json json = {{"output", flags.output}, {"format", flags.format}, {"bytes", bytes}, {"seconds", seconds}};
    fmt::print("{}\n", json.dump(2));
  } else {
    fmt::print("{}: {:.1f} MB\n", flags.output, static_cast<double>(bytes) / 1e6);
  }
}

}  // namespace

void add_export(CLI::App& app) {
  auto flags = std::make_shared<ExportFlags>();
  CLI::App* verb = app.add_subcommand("export", "Write a model, quantized or not, in a format that other engines read");
  verb->add_option(
          "MODEL", flags->model,
          "package (of a language model or a network), GGUF file, Hugging Face folder or ONNX file")
      ->required();
  verb->add_option("--format", flags->format,
                   "gguf: a file for llama.cpp; hf: a Hugging Face folder, quantized weights in "
                   "compressed-tensors form, an INT8 embedding "
                   "that is also the head as F32, because no reader knows it packed; onnx: a "
                   "network, simplified; plk: the same as a package for the runtime")
      ->required()
      ->check(CLI::IsMember({"gguf", "hf", "onnx", "plk"}));
  verb->add_option("-o,--output", flags->output, "file or folder to write")->required();
  verb->add_option("--context", flags->context,
                   "promise only so many positions; needed for GGUF when the model's sliding window is shorter than its context, "
                   "because llama.cpp ignores the window")
      ->check(CLI::PositiveNumber);
  verb->add_option("--opset", flags->opset, "onnx: 13 to 23")->check(CLI::Range(13, 23))->capture_default_str();
  verb->add_flag("--as-is", flags->as_is,
                 "onnx, plk: every operator as it was read, nothing folded or fused");
  verb->add_flag("--json", flags->json, "a report for machines on standard output");
  verb->footer(
      "Examples:\n"
      "  packlight export model.plk --format gguf -o model.gguf\n"
      "  packlight export model.plk --format hf -o folder\n"
      "  packlight export network.onnx --format onnx --opset 17 -o smaller.onnx\n"
      "  packlight export network.onnx --format plk -o network.plk\n"
      "  packlight export mistral-7b-v0.1 --format gguf --context 4096 -o mistral.gguf");
  verb->callback([verb, flags] {
    flags->opset_given = verb->count("--opset") > 0;
    export_verb(*flags);
  });
}

}  // namespace packlight::cli
