#include "quantize/rounding.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>

#include "base/fail.h"
#include "codec/tile.h"

namespace packlight::quantize {
namespace {

// Rows a worker takes at a time: small enough to share out evenly, large enough that taking costs nothing.
constexpr int64_t kRowsAtOnce = 8;
constexpr double kLeastImportance = 1e-4;

void check_finite(const MatrixRows& rows) {
  for (size_t i = 0; i < rows.values.size(); ++i) {
    if (std::isfinite(rows.values[i])) continue;
    fail(ErrorCode::kInvalidArgument, "[quantize] '{}': tensor '{}': the weight at row {}, column {} is {}; weights must be finite",
         rows.origin, rows.name, rows.first_row + static_cast<int64_t>(i) / rows.cols,
         static_cast<int64_t>(i) % rows.cols, rows.values[i]);
  }
}

[[noreturn]] void fail_overflow(const MatrixRows& rows, int64_t row, int64_t group, int64_t begin, int64_t end) {
  float largest = 0;
  for (int64_t c = begin; c < end; ++c) {
    const float v = rows.values[row * rows.cols + c];
    if (std::fabs(v) > std::fabs(largest)) largest = v;
  }
  fail(ErrorCode::kInvalidArgument,
       "[quantize] '{}': tensor '{}': row {}, group {} (columns {} to {}) holds {}; its scale does not fit F16 (at most 65504)",
       rows.origin, rows.name, rows.first_row + row, group, begin, end - 1, largest);
}

float round_to_8_bits(float v) {
  const uint32_t bits = std::bit_cast<uint32_t>(v);
  return std::bit_cast<float>((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000u);
}

}  // namespace

std::vector<float> normalised_importance(std::span<const double> mean_square, int64_t cols) {
  std::vector<float> out(cols, 1.0f);
  if (mean_square.empty()) return out;
  if (static_cast<int64_t>(mean_square.size()) != cols) {
    fail(ErrorCode::kInternal, "[quantize] importance of {} channels for a matrix of {} columns", mean_square.size(), cols);
  }
  double mean = 0;
  for (const double v : mean_square) {
    if (!(v >= 0) || !std::isfinite(v)) fail(ErrorCode::kInternal, "[quantize] importance {} of an input channel", v);
    mean += v / static_cast<double>(cols);
  }
  if (mean == 0) return out;
  for (int64_t c = 0; c < cols; ++c) {
    out[c] = round_to_8_bits(static_cast<float>(std::max(mean_square[c] / mean, kLeastImportance)));
  }
  return out;
}

codec::QuantizedMatrix round_rows(const MatrixRows& rows, const RoundingOptions& options, std::span<const float> importance,
                                  base::ThreadPool& pool, RoundingError* error) {
  const CodeRange range = code_range(options.bits, options.symmetric);
  check_finite(rows);
  codec::QuantizedMatrix out;
  out.rows = rows.rows;
  out.cols = rows.cols;
  out.bits = options.bits;
  out.group_size = options.group_size == 0 ? rows.cols : options.group_size;
  const int64_t groups = out.groups_per_row();
  out.codes.resize(rows.rows * rows.cols);
  out.scales.resize(rows.rows * groups);
  if (!options.symmetric) out.zeros.resize(rows.rows * groups);

  std::vector<RoundingError> row_error(rows.rows);
  std::atomic<int64_t> next{0};
  pool.run([&](int) {
    GroupFitter fitter(range, options.method);
    for (int64_t first; (first = next.fetch_add(kRowsAtOnce)) < rows.rows;) {
      for (int64_t r = first; r < std::min(first + kRowsAtOnce, rows.rows); ++r) {
        for (int64_t g = 0; g < groups; ++g) {
          const int64_t begin = g * out.group_size, end = std::min(begin + out.group_size, rows.cols);
          const GroupFit fit = fitter.fit(rows.values.subspan(r * rows.cols + begin, end - begin),
                                          importance.subspan(begin, end - begin), &out.codes[r * rows.cols + begin],
                                          &row_error[r].error, &row_error[r].energy);
          if (fit.overflows) fail_overflow(rows, r, g, begin, end);
          out.scales[r * groups + g] = fit.scale;
          if (!options.symmetric) out.zeros[r * groups + g] = fit.zero;
        }
      }
    }
  });
  for (const RoundingError& e : row_error) {
    error->error += e.error;
    error->energy += e.energy;
  }
  return out;
}

codec::EncodedTensor round_rows_f16(const MatrixRows& rows, std::span<const float> importance, RoundingError* error) {
  check_finite(rows);
  codec::EncodedTensor packed = codec::pack_f16(rows.values, rows.rows, rows.cols);
  std::vector<float> back(rows.cols);
  for (int64_t r = 0; r < rows.rows; ++r) {
    codec::decode_tile_row(packed, r, back.data());
    for (int64_t c = 0; c < rows.cols; ++c) {
      const double w = rows.values[r * rows.cols + c], d = w - back[c];
      error->error += importance[c] * d * d;
      error->energy += importance[c] * w * w;
    }
  }
  return packed;
}

}  // namespace packlight::quantize
