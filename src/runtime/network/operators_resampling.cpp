#include <algorithm>
#include <string>

#include "runtime/network/indexed_copy.h"
#include "runtime/network/operands.h"
#include "runtime/network/resize.h"
#include "runtime/network/strided_view.h"

namespace packlight::runtime {
namespace {

int64_t modulo(int64_t a, int64_t n) { return (a % n + n) % n; }

// The element that stands at position i (which may be outside) of an axis of n elements.
int64_t reflected(int64_t i, int64_t n) {
  if (n == 1) return 0;
  const int64_t at = modulo(i, 2 * (n - 1));
  return at < n ? at : 2 * (n - 1) - at;
}
int64_t clamped(int64_t i, int64_t n) { return std::clamp<int64_t>(i, 0, n - 1); }
int64_t inside(int64_t i, int64_t n) { return i >= 0 && i < n ? i : kOutside; }

using Continuation = int64_t (*)(int64_t, int64_t);

Continuation continuation_of(const OperatorCall& call) {
  const std::string mode = call.node.text("mode", "constant");
  if (mode == "constant") return inside;
  if (mode == "reflect") return reflected;
  if (mode == "edge") return clamped;
  if (mode == "wrap") return modulo;
  call.refuse("mode '{}'", mode);
}

struct Pads {
  int64_t begin = 0, end = 0;
};

// data, pads [begins, ends], value, axes -> the pads of every axis. Pads and axes are there.
std::vector<Pads> pads_of(const OperatorCall& call) {
  const int64_t rank = call.input(0).rank();
  const std::vector<int64_t> pads = integers_in(call, 1);
  const std::vector<int64_t> axes =
      call.has(3) ? distinct_axes(call, integers_in(call, 3), rank) : all_axes(rank);
  if (pads.size() != 2 * axes.size()) call.refuse("{} pads for {} axes", pads.size(), axes.size());
  std::vector<Pads> all(rank);
  for (size_t i = 0; i < axes.size(); ++i) {
    const Pads one{pads[i], pads[axes.size() + i]};
    constexpr int64_t kMost = int64_t{1} << 40;
    for (const int64_t pad : {one.begin, one.end}) {
      if (pad < -kMost || pad > kMost) call.refuse("a pad of {}", pad);
    }
    all[axes[i]] = one;
  }
  return all;
}

bool pad_shape(const ShapeCall& call) {
  for (const size_t i : {1, 3}) {
    if (call.has(i) && !call.input(i).has_data()) return false;
  }
  const Continuation continuation = continuation_of(call);
  std::vector<int64_t> dims = call.input(0).dims;
  const std::vector<Pads> pads = pads_of(call);
  for (size_t d = 0; d < dims.size(); ++d) {
    const auto [begin, end] = pads[d];
    // Negative pads take away first; what is left is what is continued.
    const int64_t kept = dims[d] + std::min<int64_t>(0, begin) + std::min<int64_t>(0, end);
    const bool grows = begin > 0 || end > 0;
    if (continuation != inside && (kept < 0 || (kept == 0 && grows)))
      call.refuse("pads {} and {} leave no element of axis {} of {} to continue", begin, end, d,
                  to_string(call.input(0).dims));
    dims[d] += begin + end;
  }
  call.set(0, call.input(0).dtype, std::move(dims));
  return true;
}

void pad(const RunCall& call) {
  const Tensor &x = dense(call, 0), &out = call.output(0);
  const std::byte* fill = nullptr;
  if (call.has(2)) {
    require_same_type(call, 0, 2);
    if (dense(call, 2).elements() != 1)
      call.refuse("the padded value has {} elements", call.input(2).elements());
    fill = call.input(2).data;
  }
  if (out.elements() == 0) return;
  const Continuation continuation = continuation_of(call);
  const std::vector<Pads> pads = pads_of(call);
  std::vector<std::vector<int64_t>> sources(pads.size());
  for (size_t d = 0; d < pads.size(); ++d) {
    const bool continues = continuation != inside;
    const int64_t cut = continues ? std::max<int64_t>(0, -pads[d].begin) : 0,
                  cut_end = continues ? std::max<int64_t>(0, -pads[d].end) : 0;
    const int64_t kept = x.dims[d] - cut - cut_end, first = pads[d].begin + cut;
    for (int64_t i = 0; i < out.dims[d]; ++i) {
      const int64_t at = continuation(i - first, kept);
      sources[d].push_back(at == kOutside ? kOutside : cut + at);
    }
  }
  copy_by_index(call, x, sources, fill, out);
}

// [batch, channels, height, width] in blocks of blocksize * blocksize.
int64_t block_size(const OperatorCall& call) {
  const int64_t size = call.node.integer("blocksize", 0);
  if (size < 1 || size > 1 << 20) call.refuse("blocksize is {}", size);
  if (call.input(0).rank() != 4) call.refuse("input of rank {}, not 4", call.input(0).rank());
  return size;
}

bool channels_first(const OperatorCall& call) {
  const std::string mode = call.node.text("mode", "DCR");
  if (mode != "DCR" && mode != "CRD") call.refuse("mode '{}'", mode);
  return mode == "CRD";
}

int64_t multiplied(const OperatorCall& call, int64_t size, int64_t factor) {
  int64_t out = 0;
  if (__builtin_mul_overflow(size, factor, &out))
    call.refuse("{} times {} overflows", size, factor);
  return out;
}

int64_t divided(const OperatorCall& call, int64_t size, int64_t factor) {
  if (size % factor != 0) call.refuse("{} does not divide {}", factor, size);
  return size / factor;
}

bool depth_to_space_shape(const ShapeCall& call) {
  const int64_t b = block_size(call);
  channels_first(call);
  const std::vector<int64_t>& x = call.input(0).dims;
  call.set(
      0, call.input(0).dtype,
      {x[0], divided(call, x[1], b * b), multiplied(call, x[2], b), multiplied(call, x[3], b)});
  return true;
}

bool space_to_depth_shape(const ShapeCall& call) {
  const int64_t b = block_size(call);
  channels_first(call);
  const std::vector<int64_t>& x = call.input(0).dims;
  call.set(0, call.input(0).dtype,
           {x[0], multiplied(call, x[1], b * b), divided(call, x[2], b), divided(call, x[3], b)});
  return true;
}

// The input, seen as `dims`, with its axes in another order.
void copy_permuted(const RunCall& call, const std::vector<int64_t>& dims,
                   const std::vector<int64_t>& order) {
  const std::vector<int64_t> strides = row_major_strides(dims);
  StridedView view;
  for (const int64_t axis : order) {
    view.dims.push_back(dims[axis]);
    view.strides.push_back(strides[axis]);
  }
  copy_view(call, dense(call, 0), view, call.output(0));
}

void depth_to_space(const RunCall& call) {
  const std::vector<int64_t>& x = call.input(0).dims;
  const int64_t b = block_size(call), c = x[1] / (b * b);
  if (channels_first(call))
    copy_permuted(call, {x[0], c, b, b, x[2], x[3]}, {0, 1, 4, 2, 5, 3});
  else
    copy_permuted(call, {x[0], b, b, c, x[2], x[3]}, {0, 3, 4, 1, 5, 2});
}

void space_to_depth(const RunCall& call) {
  const std::vector<int64_t>& x = call.input(0).dims;
  const int64_t b = block_size(call);
  const std::vector<int64_t> order = channels_first(call) ? std::vector<int64_t>{0, 1, 3, 5, 2, 4}
                                                          : std::vector<int64_t>{0, 3, 5, 1, 2, 4};
  copy_permuted(call, {x[0], x[1], x[2] / b, b, x[3] / b, b}, order);
}

constexpr Operator kOperators[] = {
    {"Resize", resize_shape, resize},
    {"Pad", pad_shape, pad},
    {"DepthToSpace", depth_to_space_shape, depth_to_space},
    {"SpaceToDepth", space_to_depth_shape, space_to_depth},
};

}  // namespace

std::span<const Operator> resampling_operators() { return kOperators; }

}  // namespace packlight::runtime
