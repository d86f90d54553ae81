#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <thread>

#include "base/fail.h"
#include "cli/compress/prune_structured.h"
#include "cli/verbs.h"
#include "exec/executor.h"
#include "io/hf_folder.h"
#include "prune/unit_ranking.h"

namespace packlight::cli {

void add_prune(CLI::App& app) {
  auto flags = std::make_shared<StructuredFlags>();
  auto threads = std::make_shared<int>(0);
  CLI::App* verb = app.add_subcommand(
      "prune", "Remove the channels, heads and neurons of a network that matter least");
  verb->add_option("MODEL", flags->model, "ONNX network")->required();
  verb->add_option("-o,--output", flags->output, "ONNX file (.onnx) or package (.plk)")->required();
  verb->add_option("--method", flags->method,
                   "structured: channels and heads; heads, ffn, kv, width: those alone")
      ->check(CLI::IsMember({"structured", "heads", "ffn", "kv", "width"}))
      ->required();
  verb->add_option("--ratio", flags->ratio,
                   "share of the parameters of all groups that goes, between 0 and 1");
  verb->add_option("--target-params", flags->target_params,
                   "parameters of the whole model that are left at most");
  verb->add_option("--target-bytes", flags->target_bytes, "bytes of its weights");
  verb->add_option("--target-macs", flags->target_macs, "multiply-accumulates of a sample")
      ->transform(CLI::AsSizeValue(true));
  verb->add_option("--criterion", flags->criterion,
                   "which units go: the smallest by this score; random is the control")
      ->check(CLI::IsMember(prune::unit_criterion_names()))
      ->capture_default_str();
  verb->add_option("--spread", flags->spread,
                   "global: the least score for what it saves, wherever; uniform: every group the "
                   "same share")
      ->check(CLI::IsMember({"global", "uniform"}))
      ->capture_default_str();
  verb->add_option("--repair", flags->repair,
                   "obs: what is left is fitted to the original's outputs, layer by layer; none")
      ->check(CLI::IsMember({"obs", "none"}))
      ->capture_default_str();
  verb->add_option("--protect", flags->protect,
                   "groups whose name, or a weight's, matches the glob stay whole; may be repeated")
      ->allow_extra_args(false);
  verb->add_option("--keep-multiple", flags->multiple,
                   "what is left of a group is a multiple of this; 0: 8 for 32 channels or more")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_option("--least", flags->least, "units that stay in a group")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb->add_option(
      "--input-shape", flags->input_shapes,
      "NAME=1,3,48,320 that multiply-accumulates are counted for; default: the first sample's");
  add_calibration_flags(*verb, flags->calibration);
  verb->add_option("--opset", flags->opset, "of the ONNX file")
      ->check(CLI::Range(13, 23))
      ->capture_default_str();
  verb->add_option("--seed", flags->seed, "of the samples and of --criterion random")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_option("--threads", *threads, "0: one per processor")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  verb->add_flag("--json", flags->json, "what was kept of each group, for machines");
  verb->footer(
      "Examples:\n"
      "  packlight prune network.onnx -o small.onnx --method structured --target-macs 150M --data "
      "photos\n"
      "  packlight prune network.onnx -o small.onnx --method structured --ratio 0.3 --criterion l1 "
      "--repair none");
  verb->callback([=] {
    if (!io::is_network(io::detect_model_kind(flags->model)))
      fail(ErrorCode::kUnsupported, "[prune] '{}' is a language model: --method {} takes networks",
           flags->model, flags->method);
    exec::initialise(*threads > 0
                         ? *threads
                         : static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
    prune_network_file(*flags);
  });
}

}  // namespace packlight::cli
