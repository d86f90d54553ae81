#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "calib/calibration_tokens.h"
#include "import/import.h"
#include "quantize/recipe.h"

namespace packlight::quantize {

struct QuantizeOptions {
  int threads = 0;                           // 0: one per processor; the result does not depend on it
  uint64_t max_ram_bytes = uint64_t{1} << 30;  // of activations kept during calibration; the rest goes to a temporary file
  std::filesystem::path output;              // scratch files are made in its folder
  bool quiet = false;                        // no progress bar
};

struct LayerReport {
  std::string name;
  io::WeightFormat format;
  uint64_t bytes = 0;         // codes, scales and zero points
  double relative_error = 0;  // sum h (w - ŵ)^2 / sum h w^2, h the importance (1 without calibration)
};

// Replaces every weight matrix of the model's graph by its packed tiles, as the recipe says, and marks the linear operators whose
// inputs go to INT8. Block by block: with the search, calibration runs through a block, then the block is rounded and appended to a
// scratch file; memory is one block's weights and the hidden states, whatever the number of layers.
// `tokens`: needed by ScaleMethod::kSearch, unused (may be null) by kAbsMax. Reports come in the order of decoder_tensors().
// The same recipe and tokens give the same bytes.
// Errors: InvalidArgument for a NaN or infinite weight, a pattern that matches nothing, a scale beyond F16; Unsupported for a weight
// that is packed already (quantizing twice hides what the first time cost); Io. The model is unchanged then.
std::vector<LayerReport> quantize_model(import::LanguageModel& model, const Recipe& recipe,
                                        const calib::CalibrationTokens* tokens, const QuantizeOptions& options);

}  // namespace packlight::quantize
