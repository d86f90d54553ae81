#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace packlight::cli {

struct PruneFlags {
  std::string model, output, method;
  std::optional<double> ratio;
  std::string criterion = "obs", spread = "uniform", within, repair, calib;
  std::optional<double> undo_drift;
  double damping = 0.01;
  std::vector<std::string> protect;
  int64_t calib_tokens = 16384, seed = 0;
  uint64_t max_ram_bytes = uint64_t{1} << 30;
  int threads = 0;
  bool json = false;
};
void add_prune_flags(CLI::App& verb, PruneFlags& flags);

// Prunes weights of a language model (unstructured, N:M) and writes it as a Hugging Face folder, or as GGUF when the output's
// name says so. Errors: those of prune_language_model() and of the writers; InvalidArgument for flags that have no effect
// together.
void prune_language_model_file(const PruneFlags& flags);

}  // namespace packlight::cli
