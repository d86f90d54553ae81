#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "calib/calibration_tokens.h"
#include "import/import.h"
#include "prune/layer_solver.h"
#include "prune/spread.h"

namespace packlight::prune {

struct PruneOptions {
  LayerMethod method;
  double ratio = 0.5;                // share of the weights of the layers that are pruned; unstructured only, in (0, 1)
  Spread spread = Spread::kUniform;  // N:M: uniform only
  OwlOptions owl;
  // Share of the drift that each layer is fitted to undo: what the pruning before it has changed in its input and, where it
  // writes to the residual stream, in that. 0: it is fitted to its own outputs on the inputs it gets; 1: to the original's
  // outputs. Source: arXiv:2504.09629 (QEP), arXiv:2504.02692 (GPTAQ); differs: the residual stream's drift is undone as well.
  double undo_drift = 0;
  std::vector<std::string> protect;                // globs over weight names: these layers stay as they are
  uint64_t max_ram_bytes = uint64_t{1} << 30;      // of activations kept during calibration; the rest goes to a temporary file
  std::filesystem::path output;                    // scratch files are made beside it
  bool quiet = false;                              // no progress bar
  std::function<void(const std::string&)> notice;  // told what was done otherwise than asked, and why
};

struct LayerReport {
  std::string name;
  int64_t rows = 0, cols = 0;
  int64_t kept = 0;                      // weights that are not zero
  double ratio = 0;                      // that was to go
  std::optional<double> relative_error;  // of the outputs: tr((w' - w) H (w' - w)^T) / tr(w H w^T), H of the calibration inputs;
                                         // w what the layer was fitted to. Absent without calibration
};

// Whether pruning like this looks at calibration tokens.
bool needs_calibration(const PruneOptions& options);

// Prunes the linear operators of a language model but the head, in the order they run: each on the inputs that the pruned ones
// before it give (query, key and value, then the output, then gate and up, then down). Tokens go through one group of layers at a
// time, so memory is a block's weights, its Hessians and the hidden states, whatever the number of blocks; pruned weights wait in
// a scratch file beside the output. Weights keep the type they are stored in when it is a dense one, GGML blocks become F32.
// Every pruned weight of the graph is marked: its zeros are a mask (graph::Value::zeros).
// `tokens`: needed when needs_calibration(), unused (may be null) otherwise.
// The same options and tokens give the same bytes, with any number of threads as far as LibTorch's products do.
// Errors: InvalidArgument for a ratio outside (0, 1), a share of drift outside [0, 1], a pattern that matches nothing, nothing
// left to prune, a row that N:M does not fit (layer, columns), weights or activations that are not finite, a Hessian that no
// damping helps; Unsupported for weights that are packed or pruned already; Io. The model is unchanged then.
std::vector<LayerReport> prune_language_model(import::LanguageModel& model, const calib::CalibrationTokens* tokens,
                                              const PruneOptions& options);

}  // namespace packlight::prune
