#include <algorithm>
#include <cstring>

#include "operators/slice.h"
#include "runtime/network/operands.h"
#include "runtime/network/strided_view.h"

namespace packlight::runtime {
namespace {

using codec::DType;

// The dimensions that Shape tells.
std::span<const int64_t> told_dims(const OperatorCall& call) {
  const int64_t rank = call.input(0).rank();
  const auto place = [rank](int64_t at) {
    return std::clamp<int64_t>(at < 0 ? at + rank : at, 0, rank);
  };
  const int64_t start = place(call.node.integer("start", 0)),
                end = place(call.node.integer("end", rank));
  return std::span(call.input(0).dims).subspan(start, std::max<int64_t>(0, end - start));
}

bool shape_shape(const ShapeCall& call) {
  call.set(0, DType::kI64, {static_cast<int64_t>(told_dims(call).size())});
  return true;
}

void shape_run(const RunCall& call) {
  const auto dims = told_dims(call);
  std::copy(dims.begin(), dims.end(), call.output(0).as<int64_t>());
}

bool reshape_shape(const ShapeCall& call) {
  const auto wanted = call.integers(1);
  if (!wanted) return false;
  std::vector<int64_t> dims = *wanted;
  const std::vector<int64_t>& from = call.input(0).dims;
  const bool allow_zero = call.node.integer("allowzero", 0) != 0;
  int64_t rest = -1, product = 1;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == 0 && !allow_zero) {
      if (i >= from.size())
        call.refuse("dimension {} of {} is copied but absent", i, to_string(from));
      dims[i] = from[i];
    }
    if (dims[i] == -1) {
      if (rest >= 0)
        call.refuse("two dimensions of the target shape {} are -1", to_string(*wanted));
      rest = static_cast<int64_t>(i);
    } else if (dims[i] < 0 || __builtin_mul_overflow(product, dims[i], &product)) {
      call.refuse("{} is no shape", to_string(*wanted));
    }
  }
  const int64_t elements = call.input(0).elements();
  if (rest >= 0) {
    if (product == 0 ? elements != 0 : elements % product != 0)
      call.refuse("{} does not reshape to {}", to_string(from), to_string(*wanted));
    dims[rest] = product == 0 ? 0 : elements / product;
  } else if (product != elements) {
    call.refuse("{} does not reshape to {}", to_string(from), to_string(*wanted));
  }
  call.set(0, call.input(0).dtype, std::move(dims));
  return true;
}

// As a matrix: the dimensions before the axis are its rows.
bool flatten_shape(const ShapeCall& call) {
  const std::span<const int64_t> dims = call.input(0).dims;
  const int64_t rank = call.input(0).rank();
  int64_t axis = call.node.integer("axis", 1);
  if (axis != rank) axis = rank == 0 && axis == 1 ? 0 : normalised_axis(call, axis, rank);
  call.set(0, call.input(0).dtype, {product(dims.first(axis)), product(dims.subspan(axis))});
  return true;
}

std::vector<int64_t> permutation(const OperatorCall& call) {
  std::vector<int64_t> perm = call.node.integers("perm");
  const int64_t rank = call.input(0).rank();
  if (perm.empty()) {
    for (int64_t i = rank - 1; i >= 0; --i) perm.push_back(i);
  }
  std::vector<int64_t> sorted = perm;
  std::sort(sorted.begin(), sorted.end());
  for (int64_t i = 0; i < static_cast<int64_t>(sorted.size()); ++i) {
    if (static_cast<int64_t>(sorted.size()) != rank || sorted[i] != i)
      call.refuse("perm is no permutation of {} axes", rank);
  }
  return perm;
}

bool transpose_shape(const ShapeCall& call) {
  std::vector<int64_t> dims;
  for (const int64_t axis : permutation(call)) dims.push_back(call.input(0).dims[axis]);
  call.set(0, call.input(0).dtype, std::move(dims));
  return true;
}

void transpose(const RunCall& call) {
  const StridedView in = view_of(dense(call, 0));
  StridedView view;
  for (const int64_t axis : permutation(call)) {
    view.dims.push_back(in.dims[axis]);
    view.strides.push_back(in.strides[axis]);
  }
  copy_view(call, call.input(0), view, call.output(0));
}

// Input 1 of Squeeze and Unsqueeze, which has to be there: the axes of a tensor of that rank, as
// marks.
std::vector<bool> marked_axes(const ShapeCall& call, const std::vector<int64_t>& axes,
                              int64_t rank) {
  std::vector<bool> marked(rank, false);
  for (const int64_t axis : distinct_axes(call, axes, rank)) marked[axis] = true;
  return marked;
}

bool unsqueeze_shape(const ShapeCall& call) {
  require_integers(call, 1);
  const auto axes = call.integers(1);
  if (!axes) return false;
  const std::vector<int64_t>& from = call.input(0).dims;
  std::vector<int64_t> dims;
  size_t next = 0;
  for (const bool is_new :
       marked_axes(call, *axes, static_cast<int64_t>(from.size() + axes->size())))
    dims.push_back(is_new ? 1 : from[next++]);
  call.set(0, call.input(0).dtype, std::move(dims));
  return true;
}

bool squeeze_shape(const ShapeCall& call) {
  const std::vector<int64_t>& from = call.input(0).dims;
  std::vector<bool> removed(from.size());
  if (call.has(1)) {
    require_integers(call, 1);
    const auto axes = call.integers(1);
    if (!axes) return false;
    removed = marked_axes(call, *axes, call.input(0).rank());
  } else {
    std::transform(from.begin(), from.end(), removed.begin(),
                   [](int64_t size) { return size == 1; });
  }
  std::vector<int64_t> dims;
  for (size_t i = 0; i < from.size(); ++i) {
    if (!removed[i])
      dims.push_back(from[i]);
    else if (from[i] != 1)
      call.refuse("axis {} of {} is not of size 1", i, to_string(from));
  }
  call.set(0, call.input(0).dtype, std::move(dims));
  return true;
}

bool concat_shape(const ShapeCall& call) {
  std::vector<int64_t> dims = call.input(0).dims;
  const int64_t axis = normalised_axis(call, call.node.integer("axis", 0), call.input(0).rank());
  for (size_t i = 1; i < call.input_count(); ++i) {
    require_same_type(call, 0, i);
    const std::vector<int64_t>& other = call.input(i).dims;
    if (other.size() != dims.size())
      call.refuse("ranks of {} and {} differ", to_string(dims), to_string(other));
    for (size_t d = 0; d < dims.size(); ++d) {
      if (static_cast<int64_t>(d) == axis)
        dims[d] += other[d];
      else if (dims[d] != other[d])
        call.refuse("shapes {} and {} differ outside axis {}", to_string(dims), to_string(other),
                    axis);
    }
  }
  call.set(0, call.input(0).dtype, std::move(dims));
  return true;
}

void concat(const RunCall& call) {
  const Tensor& out = call.output(0);
  if (out.elements() == 0) return;
  const int64_t axis = normalised_axis(call, call.node.integer("axis", 0), out.rank());
  const int64_t rows = product(std::span(out.dims).first(axis));
  const auto row_bytes = static_cast<int64_t>(out.bytes()) / rows;
  std::vector<int64_t> lengths;  // bytes that each input gives to a row
  for (size_t i = 0; i < call.input_count(); ++i)
    lengths.push_back(static_cast<int64_t>(dense(call, i).bytes()) / rows);
  call.parallel(rows, grain_of(row_bytes / 4), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      std::byte* to = out.data + row * row_bytes;
      for (size_t i = 0; i < lengths.size(); ++i) {
        if (lengths[i] > 0)
          std::memcpy(to, call.input(i).data + row * lengths[i], static_cast<size_t>(lengths[i]));
        to += lengths[i];
      }
    }
  });
}

// data, starts, ends, axes, steps -> the view that is left. The last four are there.
StridedView sliced(const OperatorCall& call) {
  const Tensor& x = call.input(0);
  const std::vector<int64_t> starts = integers_in(call, 1), ends = integers_in(call, 2);
  std::vector<int64_t> axes = call.has(3) ? integers_in(call, 3)
                                          : all_axes(static_cast<int64_t>(starts.size())),
                       steps = call.has(4) ? integers_in(call, 4)
                                           : std::vector<int64_t>(starts.size(), 1);
  if (ends.size() != starts.size() || axes.size() != starts.size() || steps.size() != starts.size())
    call.refuse("starts, ends, axes and steps differ in length");
  axes = distinct_axes(call, std::move(axes), x.rank());
  StridedView view = view_of(x);
  for (size_t i = 0; i < axes.size(); ++i) {
    const int64_t axis = axes[i];
    if (steps[i] == 0) call.refuse("step 0 on axis {}", axis);
    const operators::SliceRange range =
        operators::slice_range(x.dims[axis], starts[i], ends[i], steps[i]);
    view.dims[axis] = range.length;
    view.offset += range.start * view.strides[axis];
    view.strides[axis] *= range.step;
  }
  return view;
}

bool slice_shape(const ShapeCall& call) {
  for (size_t i = 1; i < 5; ++i) {
    if (i > 2 && !call.has(i)) continue;
    if (!call.input(i).has_data()) return false;
  }
  call.set(0, call.input(0).dtype, sliced(call).dims);
  return true;
}

void slice(const RunCall& call) { copy_view(call, dense(call, 0), sliced(call), call.output(0)); }

// How much of an axis of `size` elements each output takes.
std::vector<int64_t> split_sizes(const OperatorCall& call, int64_t size) {
  if (call.has(1)) return integers_in(call, 1);
  // Equal parts, the last ones smaller when they do not divide.
  const auto parts = static_cast<int64_t>(call.output_count());
  const int64_t part = (size + parts - 1) / std::max<int64_t>(1, parts);
  std::vector<int64_t> sizes;
  for (int64_t i = 0; i < parts; ++i)
    sizes.push_back(std::clamp<int64_t>(size - i * part, 0, part));
  return sizes;
}

bool split_shape(const ShapeCall& call) {
  const Tensor& x = call.input(0);
  const int64_t axis = normalised_axis(call, call.node.integer("axis", 0), x.rank());
  const auto parts = static_cast<int64_t>(call.output_count());
  if (call.node.integer("num_outputs", parts) != parts)
    call.refuse("num_outputs is {}, the node has {}", call.node.integer("num_outputs", parts),
                parts);
  if (call.has(1) && !call.input(1).has_data()) return false;
  const std::vector<int64_t> sizes = split_sizes(call, x.dims[axis]);
  if (static_cast<int64_t>(sizes.size()) != parts)
    call.refuse("{} split sizes for {} outputs", sizes.size(), parts);
  int64_t rest = x.dims[axis];
  for (int64_t i = 0; i < parts; ++i) {
    if (sizes[i] < 0 || sizes[i] > rest || (i + 1 == parts && sizes[i] != rest))
      call.refuse("split sizes {} are no parts of axis {} of {}", to_string(sizes), axis,
                  to_string(x.dims));
    rest -= sizes[i];
    std::vector<int64_t> dims = x.dims;
    dims[axis] = sizes[i];
    call.set(i, x.dtype, std::move(dims));
  }
  return true;
}

void split(const RunCall& call) {
  const Tensor& x = dense(call, 0);
  const int64_t axis = normalised_axis(call, call.node.integer("axis", 0), x.rank());
  const std::vector<int64_t> sizes = split_sizes(call, x.dims[axis]);
  StridedView view = view_of(x);
  for (size_t i = 0; i < sizes.size(); ++i) {
    view.dims[axis] = sizes[i];
    if (call.wants(i)) copy_view(call, x, view, call.output(i));
    view.offset += sizes[i] * view.strides[axis];
  }
}

constexpr Operator kOperators[] = {
    {.op = "Shape",
     .shape = shape_shape,
     .run = shape_run,
     .shapes_only = true,
     .takes_packed = true},
    {.op = "Reshape",
     .shape = reshape_shape,
     .run = nullptr,
     .is_view = true,
     .takes_packed = true},
    {.op = "Flatten",
     .shape = flatten_shape,
     .run = nullptr,
     .is_view = true,
     .takes_packed = true},
    {"Transpose", transpose_shape, transpose},
    {.op = "Unsqueeze",
     .shape = unsqueeze_shape,
     .run = nullptr,
     .is_view = true,
     .takes_packed = true},
    {.op = "Squeeze",
     .shape = squeeze_shape,
     .run = nullptr,
     .is_view = true,
     .takes_packed = true},
    {"Concat", concat_shape, concat},
    {"Slice", slice_shape, slice},
    {"Split", split_shape, split},
};

}  // namespace

std::span<const Operator> movement_operators() { return kOperators; }

}  // namespace packlight::runtime
