#include "eval/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <thread>

#include "base/fail.h"
#include "base/json.h"
#include "cli/verbs.h"
#include "exec/executor.h"
#include "import/import.h"
#include "io/hf_folder.h"
#include "io/package.h"

namespace packlight::cli {
namespace {

struct Arguments {
  std::string package, original;
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
  if (!check.passed()) {
    findings.fail_once(fmt::format(
        "[verify] '{}': the runtime's logits differ from the decoded graph's by {:.3g} of their norm, rounding explains {:.3g}",
        package->path().string(), check.difference, check.bound));
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
}

void run(const Arguments& arguments) {
  const io::ModelKind kind = io::detect_model_kind(arguments.package);
  if (kind != io::ModelKind::kPackage) {
    fail(ErrorCode::kInvalidArgument, "[verify] '{}' is {}: only a package (.plk) can be verified", arguments.package,
         io::model_kind_name(kind));
  }
  const int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  exec::initialise(threads);
  const auto package = std::make_shared<const io::Package>(io::Package::open(arguments.package));
  Findings findings;
  check_bytes(*package, findings);
  if (findings.failure.empty()) check_runtime(package, threads, findings);
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
  CLI::App* verb = app.add_subcommand("verify", "Check a package: checksums, the runtime's logits, the recipe");
  verb->add_option("PACKAGE", arguments->package, "Package (.plk)")->required();
  verb->add_option("--against", arguments->original,
                   "The model it was made from: applies the package's recipe again and compares codes and scales bit for bit");
  verb->add_flag("--json", arguments->json, "Print JSON");
  verb->footer(
      "Examples:\n"
      "  packlight verify small.plk\n"
      "  packlight verify small.plk --against model.gguf\n");
  verb->callback([arguments] { run(*arguments); });
}

}  // namespace packlight::cli
