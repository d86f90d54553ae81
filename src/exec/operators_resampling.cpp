#include <ATen/ATen.h>

#include <numeric>

#include "base/fail.h"
#include "exec/operators.h"

namespace packlight::exec {
namespace {

using Outputs = std::vector<at::Tensor>;

int64_t modulo(int64_t a, int64_t n) { return (a % n + n) % n; }

// The element that stands at position i (which may be outside) of an axis of n elements.
int64_t reflected(int64_t i, int64_t n) {
  if (n == 1) return 0;
  const int64_t at = modulo(i, 2 * (n - 1));
  return at < n ? at : 2 * (n - 1) - at;
}
int64_t clamped(int64_t i, int64_t n) { return std::clamp<int64_t>(i, 0, n - 1); }

// One axis, by the element each position takes.
at::Tensor pad_axis(at::Tensor x, int64_t axis, int64_t begin, int64_t end,
                    int64_t (*source)(int64_t, int64_t)) {
  // Negative pads take away first; what is left is what is continued.
  const int64_t cut = std::max<int64_t>(0, -begin), cut_end = std::max<int64_t>(0, -end);
  if (cut + cut_end > x.size(axis))
    fail(ErrorCode::kInvalidArgument, "pads {}, {} on {} elements", begin, end, x.size(axis));
  if (cut + cut_end > 0) x = x.narrow(axis, cut, x.size(axis) - cut - cut_end);
  begin = std::max<int64_t>(0, begin);
  end = std::max<int64_t>(0, end);
  if (begin + end == 0) return x;
  const int64_t size = x.size(axis);
  if (size == 0) fail(ErrorCode::kInvalidArgument, "axis {} has no element to continue", axis);
  at::Tensor indices = at::empty({begin + size + end}, at::kLong);
  for (int64_t i = 0; i < indices.numel(); ++i)
    indices.data_ptr<int64_t>()[i] = source(i - begin, size);
  return at::index_select(x, axis, indices);
}

Outputs pad(const Call& call) {
  const at::Tensor& x = call.inputs[0];
  const std::vector<int64_t> pads = integers(call.inputs[1]);
  std::vector<int64_t> axes(x.dim());
  std::iota(axes.begin(), axes.end(), 0);
  if (call.has(3)) axes = integers(call.inputs[3]);
  if (pads.size() != 2 * axes.size())
    fail(ErrorCode::kInvalidArgument, "{} pads for {} axes", pads.size(), axes.size());
  const std::string mode = call.node.text("mode", "constant");
  std::vector<int64_t> all(2 * x.dim(), 0);  // from the last axis on
  at::Tensor out = x;
  const auto source = mode == "reflect" ? reflected : mode == "edge" ? clamped : modulo;
  if (mode != "constant" && mode != "reflect" && mode != "edge" && mode != "wrap")
    fail(ErrorCode::kInvalidArgument, "mode '{}'", mode);
  for (size_t i = 0; i < axes.size(); ++i) {
    const int64_t axis = normalised_axis(axes[i], x.dim());
    const int64_t begin = pads[i], end = pads[axes.size() + i];
    for (const int64_t one : {begin, end}) {
      if (std::abs(static_cast<double>(one)) > static_cast<double>(operators::kMaxWindowInput))
        fail(ErrorCode::kInvalidArgument, "a pad of {}", one);
    }
    if (mode != "constant") out = pad_axis(out, axis, begin, end, source);
    all[2 * (x.dim() - 1 - axis)] = begin;
    all[2 * (x.dim() - 1 - axis) + 1] = end;
  }
  if (mode != "constant") return {out};
  if (call.has(2) && call.inputs[2].numel() != 1)
    fail(ErrorCode::kInvalidArgument, "the padded value has {} elements", call.inputs[2].numel());
  return {at::constant_pad_nd(x, all, call.has(2) ? call.inputs[2].item() : at::Scalar(0))};
}

int64_t block_size(const Call& call) {
  const int64_t size = call.node.integer("blocksize", 0);
  if (size < 1 || size > 1 << 20) fail(ErrorCode::kInvalidArgument, "blocksize is {}", size);
  if (call.inputs[0].dim() != 4)
    fail(ErrorCode::kInvalidArgument, "input of rank {}, not 4", call.inputs[0].dim());
  return size;
}

bool channels_first(const Call& call) {
  const std::string mode = call.node.text("mode", "DCR");
  if (mode != "DCR" && mode != "CRD") fail(ErrorCode::kInvalidArgument, "mode '{}'", mode);
  return mode == "CRD";
}

Outputs depth_to_space(const Call& call) {
  const at::Tensor& x = call.inputs[0];
  const int64_t b = block_size(call), n = x.size(0), h = x.size(2), w = x.size(3);
  if (x.size(1) % (b * b) != 0)
    fail(ErrorCode::kInvalidArgument, "{} does not divide {} channels", b * b, x.size(1));
  const int64_t c = x.size(1) / (b * b);
  const at::Tensor blocks = channels_first(call)
                                ? x.reshape({n, c, b, b, h, w}).permute({0, 1, 4, 2, 5, 3})
                                : x.reshape({n, b, b, c, h, w}).permute({0, 3, 4, 1, 5, 2});
  return {blocks.reshape({n, c, h * b, w * b})};
}

Outputs space_to_depth(const Call& call) {
  const at::Tensor& x = call.inputs[0];
  const int64_t b = block_size(call), n = x.size(0), c = x.size(1);
  if (x.size(2) % b != 0 || x.size(3) % b != 0)
    fail(ErrorCode::kInvalidArgument, "{} does not divide {} x {}", b, x.size(2), x.size(3));
  const int64_t h = x.size(2) / b, w = x.size(3) / b;
  const at::Tensor blocks = x.reshape({n, c, h, b, w, b});
  return {(channels_first(call) ? blocks.permute({0, 1, 3, 5, 2, 4})
                                : blocks.permute({0, 3, 5, 1, 2, 4}))
              .reshape({n, c * b * b, h, w})};
}

Outputs resize_node(const Call& call) { return {resize(call)}; }

constexpr OperatorEntry kOperators[] = {
    {"Resize", resize_node},
    {"Pad", pad},
    {"DepthToSpace", depth_to_space},
    {"SpaceToDepth", space_to_depth},
};

}  // namespace

std::span<const OperatorEntry> resampling_operators() { return kOperators; }

}  // namespace packlight::exec
