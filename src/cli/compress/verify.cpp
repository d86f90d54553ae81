#include "eval/verify.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <thread>
#include <variant>

#include "base/fail.h"
#include "base/json.h"
#include "calib/calibration_tokens.h"
#include "cli/compress/network_flags.h"
#include "cli/compress/verify_network.h"
#include "cli/verbs.h"
#include "eval/compare_networks.h"
#include "eval/first_difference.h"
#include "exec/executor.h"
#include "import/import.h"
#include "io/hf_folder.h"
#include "io/package.h"
#include "quantize/quantize_model.h"
#include "quantize/scheme.h"

namespace packlight::cli {
namespace {

struct Arguments {
  std::string package, original;
  std::vector<std::string> input_shapes;
  double tolerance = 1e-4;
  bool json = false;
};

// What was found; the first failure is the error that ends the command.
struct Findings {
  Json result;
  std::string failure;

  void fail_once(std::string text) {
    if (failure.empty()) failure = std::move(text);
  }
};

void check_bytes(const io::Package& package, Findings& findings) {
  const std::vector<std::string> damaged = package.damaged_blocks();
  findings.result["checksums"] = {{"ok", damaged.empty()}, {"damaged_blocks", damaged}};
  if (!damaged.empty()) {
    findings.fail_once(fmt::format("[verify] '{}': the bytes of {} differ from their checksum", package.path().string(),
                                   fmt::join(damaged, ", ")));
  }
}

void check_runtime(const std::shared_ptr<const io::Package>& package, int threads, Findings& findings) {
  const import::LanguageModel decoded = import::load_language_model(package->path());
  const auto tokens = eval::verification_tokens(package->config(), decoded.tokenizer ? &*decoded.tokenizer : nullptr);
  const eval::LogitCheck check = eval::check_logits(package, decoded, tokens, threads);
  findings.result["logits"] = {{"ok", check.passed()},
                               {"relative_difference", check.difference},
                               {"bound", check.bound},
                               {"tokens", check.tokens}};
  if (!check.conclusive()) {
    findings.fail_once(fmt::format(
        "[verify] '{}': rounding alone changes this model's logits by up to {:.3g} of their norm (at most {:.3g} can be judged)",
        package->path().string(), check.bound, eval::LogitCheck::kLoosest));
  } else if (!check.passed()) {
    findings.fail_once(fmt::format(
        "[verify] '{}': the runtime's logits differ from the decoded graph's by {:.3g} of their norm, rounding explains {:.3g}",
        package->path().string(), check.difference, check.bound));
  }
}

// A weight of the model made again, as the package stores it: tiles as they are, anything else as F32.
codec::EncodedTensor as_stored(const graph::Weight& weight) {
  const auto* encoded = std::get_if<codec::EncodedTensor>(&weight);
  if (encoded && codec::is_tile(encoded->dtype)) return *encoded;
  const auto values = std::make_shared<at::Tensor>(exec::dense_weight(weight).contiguous());
  codec::EncodedTensor out;
  out.rows = values->dim() == 2 ? values->size(0) : 1;
  out.cols = values->size(-1);
  out.data = {reinterpret_cast<const std::byte*>(values->data_ptr<float>()), values->nbytes()};
  out.owner = values;
  return out;
}

import::LanguageModel quantize_again(const io::Package& package, const Arguments& arguments, int threads) {
  const std::string path = package.path().string();
  if (io::detect_model_kind(arguments.original) == io::ModelKind::kPackage) {
    fail(ErrorCode::kInvalidArgument, "[verify] '{}' is a package: --against takes the model that '{}' was made from",
         arguments.original, path);
  }
  const quantize::Recipe recipe = quantize::recipe_from_json(package.metadata().recipe, path);
  calib::CalibrationTokens tokens;
  const std::span<const std::byte> blob = package.blob("calibration_tokens");
  if (!blob.empty()) tokens = calib::tokens_from_blob(blob, package.config().vocab_size, path);
  import::LanguageModel model = import::load_language_model(arguments.original);
  if (model.config.hidden_size != package.config().hidden_size || model.config.layers() != package.config().layers() ||
      model.config.vocab_size != package.config().vocab_size) {
    fail(ErrorCode::kInvalidArgument, "[verify] '{}' is another model than '{}' was made from: {} layers of width {}, not {} of {}",
         arguments.original, path, model.config.layers(), model.config.hidden_size, package.config().layers(),
         package.config().hidden_size);
  }
  quantize::QuantizeOptions options;
  options.threads = threads;
  options.output = std::filesystem::temp_directory_path() / "packlight-verify";  // scratch files go beside it
  quantize::quantize_model(model, recipe, blob.empty() ? nullptr : &tokens, options);
  return model;
}

// Everything but the weights: what the model is, how its weights are to be multiplied, the tokenizer. Its name may differ.
std::string configuration_difference(const io::Package& package, const import::LanguageModel& again) {
  const Json kept = io::decoder_config_to_json(package.config()), made = io::decoder_config_to_json(again.config);
  for (const auto& [key, value] : kept.items()) {
    if (key != "name" && (!made.contains(key) || made[key] != value)) {
      return fmt::format("configuration '{}' is {}, not {}", key, value.dump(), made.value(key, Json()).dump());
    }
  }
  if (kept.size() != made.size()) return fmt::format("configuration of {} entries, not {}", kept.size(), made.size());
  const quantize::Recipe recipe = quantize::recipe_from_json(package.metadata().recipe, package.path().string());
  const auto plan = quantize::plan_formats(io::decoder_tensors(package.config()), recipe.body, recipe.head, recipe.overrides);
  for (auto [name, format] : plan) {
    format.sparsity = package.format(name).sparsity;  // follows from the weight, which is compared too
    if (package.format(name) == format) continue;
    return fmt::format("tensor '{}' is {}, not {}", name, io::to_string(package.format(name)), io::to_string(format));
  }
  const std::span<const std::byte> tokenizer = package.blob("tokenizer");
  const std::vector<std::byte> blob = again.tokenizer ? again.tokenizer->to_blob() : std::vector<std::byte>();
  return std::ranges::equal(tokenizer, blob) ? "" : "the tokenizer (formats keep different parts of one: compare with the very file that was quantized)";
}

void check_recipe(const io::Package& package, const Arguments& arguments, int threads, Findings& findings) {
  const import::LanguageModel again = quantize_again(package, arguments, threads);
  int64_t weights = 0;
  std::string difference = configuration_difference(package, again);
  for (const io::TensorSpec& spec : io::decoder_tensors(package.config())) {
    const auto id = again.graph.find(spec.name);
    if (!id || !again.graph.value(*id).weight) {
      fail(ErrorCode::kCorrupt, "[verify] '{}' has no tensor '{}'", arguments.original, spec.name);
    }
    ++weights;
    const auto found = eval::first_difference(package.tensor(spec.name), as_stored(*again.graph.value(*id).weight));
    if (!found || !difference.empty()) continue;
    difference = fmt::format("tensor '{}', {}", spec.name, *found);
  }
  findings.result["recipe"] = {{"ok", difference.empty()}, {"weights", weights}, {"first_difference", difference}};
  if (!difference.empty()) {
    findings.fail_once(fmt::format("[verify] '{}' is not what its recipe makes of '{}': {}", package.path().string(),
                                   arguments.original, difference));
  }
}

void print_text(const Arguments& arguments, const Json& result) {
  const auto verdict = [](const Json& part) { return part["ok"].get<bool>() ? "ok" : "FAILED"; };
  fmt::print("{}\n", arguments.package);
  fmt::print("checksums   {}\n", verdict(result["checksums"]));
  if (result.contains("logits")) {
    const Json& logits = result["logits"];
    fmt::print("logits      {}: runtime and decoded graph differ by {:.2e} of the norm over {} tokens (bound {:.2e})\n",
               verdict(logits), logits["relative_difference"].get<double>(), logits["tokens"].dump(),
               logits["bound"].get<double>());
  }
  if (result.contains("recipe")) {
    fmt::print("recipe      {}: {} tensors made again from {}\n", verdict(result["recipe"]),
               result["recipe"]["weights"].dump(), arguments.original);
  }
}

// Two networks on the same random inputs.
void verify_network(const Arguments& arguments) {
  if (arguments.original.empty()) {
    fail(ErrorCode::kInvalidArgument, "[verify] '{}' is an ONNX network: give the one it must agree with (--against)", arguments.package);
  }
  exec::initialise(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  const import::OnnxNetwork network = load_network(arguments.package), original = load_network(arguments.original);
  const auto shapes = parse_input_shapes(arguments.input_shapes, original.graph);
  const eval::NetworkDifference difference = eval::compare_networks(
      eval::graph_subject(network.graph), eval::graph_subject(original.graph), shapes);
  // As in a package: what rounding to codes costs is printed, and is for eval to judge.
  const bool judged = network.metadata.count(kRecipeKey) == 0;
  const bool ok = difference.largest <= arguments.tolerance;
  const Json result = {{"ok", judged ? Json(ok) : Json()}, {"tolerance", arguments.tolerance},
                       {"largest_difference", difference.largest}, {"output", difference.output}};
  if (arguments.json) {
    fmt::print("{}\n", result.dump(2));
  } else {
    fmt::print("{}\noutputs     {}: differ from {} by at most {:.2e} of the range, at '{}' ({} {:.2e})\n", arguments.package,
               !judged ? "quantized" : ok ? "ok" : "FAILED", arguments.original, difference.largest, difference.output,
               judged ? "bound" : "not judged by the bound", arguments.tolerance);
  }
  if (judged && !ok) {
    fail(ErrorCode::kCorrupt, "[verify] '{}': output '{}' differs from that of '{}' by {:.2e} of its range, more than {:.2e}",
         arguments.package, difference.output, arguments.original, difference.largest, arguments.tolerance);
  }
}

void run(const Arguments& arguments) {
  const io::ModelKind kind = io::detect_model_kind(arguments.package);
  if (kind == io::ModelKind::kOnnx) return verify_network(arguments);
  if (kind == io::ModelKind::kNetworkPackage)
    return verify_network_package({arguments.package, arguments.original, arguments.input_shapes,
                                   arguments.tolerance, arguments.json});
  if (kind != io::ModelKind::kPackage) {
    fail(ErrorCode::kInvalidArgument, "[verify] '{}' is {}: only a package (.plk) or an ONNX file can be verified", arguments.package,
         io::model_kind_name(kind));
  }
  const int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  exec::initialise(threads);
  const auto package = std::make_shared<const io::Package>(io::Package::open(arguments.package));
  Findings findings;
  check_bytes(*package, findings);
  if (findings.failure.empty()) check_runtime(package, threads, findings);
  if (findings.failure.empty() && !arguments.original.empty()) check_recipe(*package, arguments, threads, findings);
  findings.result["ok"] = findings.failure.empty();
  if (arguments.json) {
    fmt::print("{}\n", findings.result.dump(2));
  } else {
    print_text(arguments, findings.result);
  }
  if (!findings.failure.empty()) throw Error(ErrorCode::kCorrupt, findings.failure);
}

}  // namespace

void add_verify(CLI::App& app) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* verb = app.add_subcommand(
      "verify", "Check a package: checksums, the runtime's outputs, the recipe or the original");
  verb->add_option("PACKAGE", arguments->package, "Package (.plk), or ONNX file")->required();
  verb->add_option("--against", arguments->original,
                   "The model it was made from. Language model: applies the package's recipe again "
                   "and compares codes and scales bit for "
                   "bit; network: compares outputs");
  verb->add_option("--input-shape", arguments->input_shapes,
                   "Network: NAME=1,3,48,320 for inputs whose size varies");
  verb->add_option("--tolerance", arguments->tolerance,
                   "Network: largest difference, as a share of the output's range")
      ->capture_default_str();
  verb->add_flag("--json", arguments->json, "Print JSON");
  verb->footer(
      "Examples:\n"
      "  packlight verify small.plk\n"
      "  packlight verify small.plk --against model.gguf\n"
      "  packlight verify network.plk --against network.onnx\n"
      "  packlight verify smaller.onnx --against network.onnx --input-shape 1,3,48,320\n");
  verb->callback([arguments] { run(*arguments); });
}

}  // namespace packlight::cli
