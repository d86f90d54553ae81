#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "calib/calibration_tokens.h"
#include "cli/compress/calibration_data.h"
#include "cli/compress/language_model_output.h"
#include "import/import.h"

namespace packlight::cli {

struct PruneFlags {
  std::string model, output, method;
  std::optional<double> ratio;
  std::string criterion, spread, repair;  // empty: as the method does by default
  std::vector<std::string> protect;
  int64_t seed = 0;
  int threads = 0;
  bool json = false;

  // Single weights.
  std::string within;
  double damping = 0.01;
  std::optional<double> undo_drift;

  // Whole units.
  std::optional<int64_t> target_params, target_bytes, target_macs;
  int64_t multiple = 0, least = 1;

  // Language models.
  std::string calib;
  int64_t calib_tokens = 16384;
  uint64_t max_ram_bytes = uint64_t{1} << 30;

  // Networks.
  CalibrationFlags calibration;
  std::vector<std::string> input_shapes;
  int64_t opset = 17;
};

// Whether the method takes whole channels, heads and neurons, not single weights.
bool prunes_units(const PruneFlags& flags);

// Prunes weights of a language model (unstructured, N:M) and writes it as a Hugging Face folder, or
// as GGUF when the output's name says so. Errors: those of prune_language_model() and of the
// writers; InvalidArgument for flags that have no effect together.
void prune_weights(const PruneFlags& flags);

// Prunes whole units of a network (written as ONNX or package) or of a language model (Hugging Face
// folder or GGUF). Errors: those of prune::prune_structured() and of the writers; InvalidArgument
// for flags that have no effect together.
void prune_units(const PruneFlags& flags);

// Removes whole blocks of a language model (--method depth). Errors: those of
// prune::remove_blocks() and of the writers; InvalidArgument for flags that have no effect together.
void prune_blocks(const PruneFlags& flags);

// What the ways of pruning a language model share.
calib::CalibrationTokens pruning_tokens(const import::LanguageModel& model,
                                        const PruneFlags& flags);

}  // namespace packlight::cli
