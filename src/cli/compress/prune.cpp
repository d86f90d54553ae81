#include "cli/compress/prune.h"

#include <CLI/CLI.hpp>
#include <memory>

#include "base/fail.h"
#include "cli/compress/output.h"
#include "cli/verbs.h"
#include "io/hf_folder.h"

namespace packlight::cli {
namespace {

void prune_any(const PruneFlags& flags) {
  check_output(flags.model, flags.output);
  const io::ModelKind kind = io::detect_model_kind(flags.model);
  if (io::is_network(kind)) {
    fail(ErrorCode::kUnsupported, "[prune] '{}' is a network ({}): pruning takes language models so far", flags.model,
         io::model_kind_name(kind));
  }
  prune_language_model_file(flags);
}

}  // namespace

void add_prune(CLI::App& app) {
  auto flags = std::make_shared<PruneFlags>();
  CLI::App* verb = app.add_subcommand("prune", "Remove the weights of a language model that matter least");
  add_prune_flags(*verb, *flags);
  verb->callback([flags] { prune_any(*flags); });
}

}  // namespace packlight::cli
