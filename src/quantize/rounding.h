#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "codec/encoded_tensor.h"
#include "codec/quantized_matrix.h"
#include "quantize/group_fit.h"

namespace packlight::quantize {

// How one matrix is rounded.
struct RoundingOptions {
  int bits = 4;             // 4 or 8
  int64_t group_size = 32;  // 32, 64, 128; 0: the whole row is one group. A row's last group may be shorter
  bool symmetric = true;    // asymmetric: INT4 only
  ScaleMethod method = ScaleMethod::kSearch;
};

// What rounding cost: sum h (w - ŵ)^2 and sum h w^2; with no importance h = 1.
struct RoundingError {
  double error = 0, energy = 0;
  double relative() const { return energy > 0 ? error / energy : 0; }
};

// Consecutive rows of a weight matrix. `name`, `first_row` and `origin` (its file) are for errors.
struct MatrixRows {
  std::string_view name;
  int64_t first_row = 0;
  int64_t rows = 0, cols = 0;
  std::span<const float> values;  // [rows, cols], row-major
  std::string_view origin = {};
};

// Importance [cols] as the search needs it: scaled to mean 1, no channel below 1e-4 of the mean (a channel that calibration
// never saw may still carry something), rounded to 8 significant bits so that the last bits of a float sum, which differ between
// processors, decide nothing. Empty in: all ones. Errors: Internal for a negative or non-finite entry.
std::vector<float> normalised_importance(std::span<const double> mean_square, int64_t cols);

// Rounds the rows group by group on all workers of the pool; the result does not depend on how many there are.
// importance: [cols] from normalised_importance(). Adds to *error.
// Errors: InvalidArgument for a NaN or infinite weight, or a scale that exceeds F16: file, tensor, row, column and value.
codec::QuantizedMatrix round_rows(const MatrixRows& rows, const RoundingOptions& options, std::span<const float> importance,
                                  base::ThreadPool& pool, RoundingError* error);

// The same for matrices that stay F16: nearest even, packed. Errors: InvalidArgument for a weight that is not finite or becomes
// infinite.
codec::EncodedTensor round_rows_f16(const MatrixRows& rows, std::span<const float> importance, RoundingError* error);

}  // namespace packlight::quantize
