#include <algorithm>
#include <cmath>
#include <cstring>

#include "operators/element_types.h"
#include "operators/slice.h"
#include "runtime/network/operands.h"
#include "runtime/network/strided_view.h"
#include "runtime/network/typed.h"

namespace packlight::runtime {
namespace {

using codec::DType;

bool size_shape(const ShapeCall& call) {
  call.input(0);
  call.set(0, DType::kI64, {});
  return true;
}

void size_run(const RunCall& call) { *call.output(0).as<int64_t>() = call.input(0).elements(); }

// The element that ConstantOfShape repeats; null: 0 in F32.
const io::TensorRecord* constant_value(const OperatorCall& call) {
  const auto* value =
      call.node.attributes.get<io::TensorRecord>("value", call.node.label(), "a tensor");
  if (value == nullptr) return nullptr;
  const bool one =
      std::all_of(value->shape.begin(), value->shape.end(), [](int64_t size) { return size == 1; });
  const int bytes = codec::info(value->dtype).block_bytes;
  if (!one || bytes == 0 || value->bytes.size() != static_cast<size_t>(bytes))
    call.refuse("attribute 'value' is no tensor of one element");
  return value;
}

bool constant_of_shape_shape(const ShapeCall& call) {
  require_integers(call, 0);
  auto dims = call.integers(0);
  if (!dims) return false;
  const io::TensorRecord* value = constant_value(call);
  call.set(0, value == nullptr ? DType::kF32 : value->dtype, std::move(*dims));
  return true;
}

void constant_of_shape(const RunCall& call) {
  const Tensor& out = call.output(0);
  const io::TensorRecord* value = constant_value(call);
  for_element_size(call, out.dtype, [&](auto element) {
    if (value != nullptr) std::memcpy(&element, value->bytes.data(), sizeof(element));
    std::fill_n(out.as<decltype(element)>(), out.elements(), element);
  });
}

int64_t range_count(const ShapeCall& call) {
  if (call.input(0).dtype != DType::kF32) {
    const int64_t step = one_integer(call, 2, "delta");
    if (step == 0) call.refuse("delta is 0");
    return operators::range_length(one_integer(call, 0, "start"), one_integer(call, 1, "limit"),
                                   step);
  }
  const double first = *call.input(0).as<float>(), last = *call.input(1).as<float>(),
               step = *call.input(2).as<float>(), count = std::ceil((last - first) / step);
  if (!std::isfinite(first) || !std::isfinite(last) || !std::isfinite(step) ||
      !std::isfinite(count) || count >= 0x1p62)
    call.refuse("from {} to {} by {} is no range", first, last, step);
  return std::max<int64_t>(0, static_cast<int64_t>(count));
}

bool range_shape(const ShapeCall& call) {
  for (size_t i = 0; i < 3; ++i) {
    require_same_type(call, 0, i);
    if (dense(call, i).elements() != 1)
      call.refuse("start, limit and delta are not single numbers");
  }
  for (size_t i = 0; i < 3; ++i) {
    if (!call.input(i).has_data()) return false;
  }
  call.set(0, call.input(0).dtype, {range_count(call)});
  return true;
}

void range(const RunCall& call) {
  const Tensor& out = call.output(0);
  for_number_type(call, out.dtype, [&](auto zero) {
    using T = decltype(zero);
    T* to = out.as<T>();
    if constexpr (std::is_integral_v<T>) {  // steps that wrap round are nobody's trap
      const auto start = static_cast<uint64_t>(*call.input(0).as<T>()),
                 delta = static_cast<uint64_t>(*call.input(2).as<T>());
      for (int64_t i = 0; i < out.elements(); ++i)
        to[i] = static_cast<T>(start + static_cast<uint64_t>(i) * delta);
    } else {
      const T start = *call.input(0).as<T>(), delta = *call.input(2).as<T>();
      for (int64_t i = 0; i < out.elements(); ++i) to[i] = start + static_cast<T>(i) * delta;
    }
  });
}

bool expand_shape(const ShapeCall& call) {
  require_integers(call, 1);
  const auto target = call.integers(1);
  if (!target) return false;
  call.set(0, call.input(0).dtype, broadcast(call, call.input(0).dims, *target));
  return true;
}

void expand(const RunCall& call) {
  const Tensor &x = call.input(0), &out = call.output(0);
  StridedView view{out.dims, std::vector<int64_t>(out.dims.size(), 0)};
  const std::vector<int64_t> strides = row_major_strides(x.dims);
  const size_t skipped = out.dims.size() - x.dims.size();
  for (size_t d = 0; d < x.dims.size(); ++d) {
    if (x.dims[d] != 1) view.strides[skipped + d] = strides[d];
  }
  copy_view(call, dense(call, 0), view, out);
}

bool tile_shape(const ShapeCall& call) {
  require_integers(call, 1);
  const auto repeats = call.integers(1);
  if (!repeats) return false;
  std::vector<int64_t> dims = call.input(0).dims;
  if (repeats->size() != dims.size())
    call.refuse("{} repeats for {}", repeats->size(), to_string(dims));
  for (size_t d = 0; d < dims.size(); ++d) {
    if ((*repeats)[d] < 0) call.refuse("{} repeats of axis {}", (*repeats)[d], d);
    if (__builtin_mul_overflow(dims[d], (*repeats)[d], &dims[d]))
      call.refuse("axis {} of {} overflows", d, to_string(call.input(0).dims));
  }
  call.set(0, call.input(0).dtype, std::move(dims));
  return true;
}

void tile(const RunCall& call) {
  const Tensor& x = dense(call, 0);
  const std::vector<int64_t> repeats = integers_in(call, 1), strides = row_major_strides(x.dims);
  StridedView view;
  for (size_t d = 0; d < x.dims.size(); ++d) {
    view.dims.insert(view.dims.end(), {repeats[d], x.dims[d]});
    view.strides.insert(view.strides.end(), {0, strides[d]});
  }
  copy_view(call, x, view, call.output(0));
}

// Every float is F32 here.
DType type_of_number(const OperatorCall& call, int64_t number) {
  const auto dtype = operators::dtype_of_onnx(number);
  if (!dtype) call.refuse("element type {} is not supported", number);
  return codec::is_float(*dtype) ? DType::kF32 : *dtype;
}

bool eye_like_shape(const ShapeCall& call) {
  const Tensor& x = call.input(0);
  if (x.rank() != 2) call.refuse("{} is no matrix", to_string(x.dims));
  const int64_t dtype = call.node.integer("dtype", 0);
  call.set(0, dtype == 0 ? x.dtype : type_of_number(call, dtype), x.dims);
  return true;
}

template <class T>
void fill_eye(const Tensor& out, int64_t k) {
  const int64_t rows = out.dims[0], columns = out.dims[1];
  std::fill_n(out.as<T>(), rows * columns, T{0});
  for (int64_t row = std::max<int64_t>(0, -k); row < rows && row + k < columns; ++row)
    out.as<T>()[row * columns + row + k] = T{1};
}

void eye_like(const RunCall& call) {
  const Tensor& out = call.output(0);
  // Any diagonal outside the matrix is as good as the first one outside.
  const int64_t k = std::clamp(call.node.integer("k", 0), -out.dims[0], out.dims[1]);
  if (out.dtype == DType::kBool) return fill_eye<uint8_t>(out, k);
  for_number_type(call, out.dtype, [&](auto zero) { fill_eye<decltype(zero)>(out, k); });
}

bool one_hot_shape(const ShapeCall& call) {
  const Tensor &indices = call.input(0), &values = dense(call, 2);
  if (values.rank() != 1 || values.elements() != 2)
    call.refuse("values are {}, not [off, on]", to_string(values.dims));
  const int64_t axis = normalised_axis(call, call.node.integer("axis", -1), indices.rank() + 1);
  if (!call.input(1).has_data()) return false;
  std::vector<int64_t> dims = indices.dims;
  dims.insert(dims.begin() + axis, one_integer(call, 1, "depth"));
  call.set(0, values.dtype, std::move(dims));
  return true;
}

// An index outside [-depth, depth) is off everywhere.
void one_hot(const RunCall& call) {
  const Tensor &out = call.output(0), &values = call.input(2);
  const int64_t axis = normalised_axis(call, call.node.integer("axis", -1), out.rank());
  const int64_t depth = out.dims[axis], inner = product(std::span(out.dims).subspan(axis + 1));
  const std::vector<double> indices = *numbers_in(call, 0);  // exact where they can be in range
  for_element_size(call, out.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T off = values.as<T>()[0], on = values.as<T>()[1];
    T* to = out.as<T>();
    std::fill_n(to, out.elements(), off);
    for (int64_t i = 0; depth > 0 && i < static_cast<int64_t>(indices.size()); ++i) {
      const double index = std::trunc(indices[i]), size = static_cast<double>(depth);
      if (!(index >= -size && index < size)) continue;
      const auto at = static_cast<int64_t>(index < 0 ? index + size : index);
      to[(i / inner * depth + at) * inner + i % inner] = on;
    }
  });
}

bool trilu_shape(const ShapeCall& call) {
  const Tensor& x = call.input(0);
  if (x.rank() < 2) call.refuse("{} has fewer than two dimensions", to_string(x.dims));
  call.set(0, x.dtype, x.dims);
  return true;
}

void trilu(const RunCall& call) {
  const Tensor &x = dense(call, 0), &out = call.output(0);
  const int64_t rows = x.dims[x.rank() - 2], columns = x.dims.back();
  const int64_t k =
      std::clamp(call.has(1) ? one_integer(call, 1, "k") : int64_t{0}, -rows, columns);
  const bool upper = call.node.integer("upper", 1) != 0;
  if (out.elements() == 0) return;
  for_element_size(call, x.dtype, [&](auto zero) {
    using T = decltype(zero);
    call.parallel(out.elements() / columns, grain_of(columns), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const T* from = x.as<T>() + row * columns;
        T* to = out.as<T>() + row * columns;
        // Columns [first, last) stay.
        const int64_t diagonal = row % rows + k;
        const int64_t first = upper ? std::clamp<int64_t>(diagonal, 0, columns) : 0;
        const int64_t last = upper ? columns : std::clamp<int64_t>(diagonal + 1, 0, columns);
        if (from != to) std::copy(from + first, from + last, to + first);
        std::fill(to, to + first, T{0});
        std::fill(to + last, to + columns, T{0});
      }
    });
  });
}

constexpr Operator kOperators[] = {
    {.op = "Size", .shape = size_shape, .run = size_run, .shapes_only = true, .takes_packed = true},
    {"ConstantOfShape", constant_of_shape_shape, constant_of_shape},
    {"Range", range_shape, range},
    {"Expand", expand_shape, expand},
    {"Tile", tile_shape, tile},
    {"EyeLike", eye_like_shape, eye_like},
    {"OneHot", one_hot_shape, one_hot},
    {"Trilu", trilu_shape, trilu, false, true},
};

}  // namespace

std::span<const Operator> creation_operators() { return kOperators; }

}  // namespace packlight::runtime
