#include "quantize/weight_codes.h"

#include <ATen/ATen.h>

#include <limits>

#include "base/fail.h"

namespace packlight::quantize {
namespace {

constexpr double kLeastShrink = 0.2;
constexpr int kShrinkSteps = 80;

at::Tensor nearest(const at::Tensor& rows, const at::Tensor& scale, const WeightGrid& grid) {
  return at::clamp(at::round(rows / scale), grid.low, grid.high);
}

// rows: [channels, n] -> [channels, 1].
at::Tensor choose_scales(const at::Tensor& rows, const WeightGrid& grid, ScaleMethod method) {
  at::Tensor widest = rows.abs().amax(1, true) / static_cast<double>(grid.high);
  const at::Tensor unusable = widest <= std::numeric_limits<float>::min();
  widest = widest.masked_fill(unusable, 1);
  if (method == ScaleMethod::kAbsMax) return widest;
  at::Tensor best = widest.clone();
  at::Tensor least = at::full_like(widest, std::numeric_limits<double>::infinity(), at::kDouble);
  for (int step = 0; step <= kShrinkSteps; ++step) {
    const double shrink = 1 - (1 - kLeastShrink) * step / kShrinkSteps;
    const at::Tensor scale = widest * shrink;
    const at::Tensor error =
        (nearest(rows, scale, grid) * scale - rows).to(at::kDouble).square().sum(1, true);
    const at::Tensor better = error < least;
    least = at::where(better, error, least);
    best = at::where(at::logical_and(better, at::logical_not(unusable)), scale, best);
  }
  return best;
}

}  // namespace

WeightGrid weight_grid(int bits) {
  if (bits < 2 || bits > 8)
    fail(ErrorCode::kInvalidArgument, "[quantize] weights of {} bits; 2 to 8 are possible", bits);
  const int64_t half = int64_t{1} << (bits - 1);
  return {bits == 8 ? 1 - half : -half, half - 1};
}

WeightCodes round_weight(const at::Tensor& w, int64_t axis, const WeightRounding& rounding) {
  const WeightGrid grid = weight_grid(rounding.bits);
  WeightCodes result;
  result.axis = axis;
  result.bits = rounding.bits;
  const at::Tensor first = w.movedim(axis, 0).contiguous();
  const at::Tensor rows = first.reshape({rounding.per_tensor ? 1 : first.size(0), -1});
  const at::Tensor scale = choose_scales(rows, grid, rounding.method);
  result.scales = rounding.per_tensor ? scale.reshape({}) : scale.reshape({-1});
  result.codes =
      nearest(rows, scale, grid).to(at::kChar).reshape(first.sizes()).movedim(0, axis).contiguous();
  return result;
}

at::Tensor spread_scales(const WeightCodes& codes) {
  if (codes.scales.dim() == 0) return codes.scales;
  std::vector<int64_t> shape(codes.codes.dim(), 1);
  shape[codes.axis] = codes.scales.numel();
  return codes.scales.reshape(shape);
}

at::Tensor decode(const WeightCodes& codes) {
  return codes.codes.to(at::kFloat) * spread_scales(codes);
}

}  // namespace packlight::quantize
