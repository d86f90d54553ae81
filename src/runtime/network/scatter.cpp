#include "runtime/network/scatter.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "runtime/network/elementwise.h"
#include "runtime/network/operands.h"
#include "runtime/network/strided_view.h"
#include "runtime/network/typed.h"

namespace packlight::runtime {
namespace {

using codec::DType;

enum class Reduction : uint8_t { kNone, kAdd, kMul, kMax, kMin };

Reduction reduction_of(const OperatorCall& call) {
  constexpr std::pair<std::string_view, Reduction> kNames[] = {{"none", Reduction::kNone},
                                                               {"add", Reduction::kAdd},
                                                               {"mul", Reduction::kMul},
                                                               {"max", Reduction::kMax},
                                                               {"min", Reduction::kMin}};
  const std::string name = call.node.text("reduction", "none");
  for (const auto& [known, reduction] : kNames) {
    if (name == known) return reduction;
  }
  call.refuse("reduction is '{}', not none, add, mul, max or min", name);
}

template <class T>
bool is_nan(T value) {
  return value != value;
}

// What stands at a place after an update arrives. Integers wrap round; NaN stays, whichever of the
// two it is.
template <class T>
T reduced(Reduction reduction, T old, T update) {
  switch (reduction) {
    case Reduction::kNone:
      return update;
    case Reduction::kAdd:
      return static_cast<T>(static_cast<Wrapping<T>>(old) + static_cast<Wrapping<T>>(update));
    case Reduction::kMul:
      return static_cast<T>(static_cast<Wrapping<T>>(old) * static_cast<Wrapping<T>>(update));
    case Reduction::kMax:
      return is_nan(old) || old > update ? old : update;
    case Reduction::kMin:
      return is_nan(old) || old < update ? old : update;
  }
  return update;
}

void copy_data(const RunCall& call) {
  const Tensor &data = dense(call, 0), &out = call.output(0);
  if (out.bytes() > 0) std::memcpy(out.data, data.data, out.bytes());
}

// fn(T{}, put) with put(place, update) for what the reduction does to the output's elements.
template <class Fn>
void with_put(const RunCall& call, const Fn& fn) {
  const Reduction reduction = reduction_of(call);
  const Tensor& out = call.output(0);
  if (reduction == Reduction::kNone) {  // of any type
    for_element_size(call, out.dtype, [&](auto zero) {
      auto* to = out.as<decltype(zero)>();
      fn(zero, [to](int64_t place, decltype(zero) update) { to[place] = update; });
    });
  } else {
    for_number_type(call, out.dtype, [&](auto zero) {
      auto* to = out.as<decltype(zero)>();
      fn(zero, [to, reduction](int64_t place, decltype(zero) update) {
        to[place] = reduced(reduction, to[place], update);
      });
    });
  }
}

bool check_data(const ShapeCall& call) {
  require_integers(call, 1);
  require_same_type(call, 0, 2);
  if (reduction_of(call) != Reduction::kNone)
    for_number_type(call, call.input(0).dtype, [](auto) {});
  call.set(0, call.input(0).dtype, call.input(0).dims);
  return true;
}

}  // namespace

int64_t checked_index(const OperatorCall& call, int64_t index, int64_t size) {
  if (index < -size || index >= size)
    call.refuse("index {} is outside [{}, {})", index, -size, size);
  return index < 0 ? index + size : index;
}

int64_t checked_place(const OperatorCall& call, const int64_t* at, std::span<const int64_t> sizes) {
  int64_t place = 0;
  for (size_t i = 0; i < sizes.size(); ++i)
    place = place * sizes[i] + checked_index(call, at[i], sizes[i]);
  return place;
}

std::span<const int64_t> indexed_dims(const OperatorCall& call, int64_t batch) {
  const Tensor &data = call.input(0), &indices = call.input(1);
  if (batch < 0 || batch >= std::min(data.rank(), indices.rank()))
    call.refuse("batch_dims {} does not fit ranks {} and {}", batch, data.rank(), indices.rank());
  const int64_t length = indices.dims.back();
  if (length < 1 || length > data.rank() - batch)
    call.refuse("indices point into {} dimensions, the data have {}", length, data.rank() - batch);
  return std::span(data.dims).subspan(batch, length);
}

bool scatter_elements_shape(const ShapeCall& call) {
  const Tensor &data = call.input(0), &indices = call.input(1), &updates = call.input(2);
  if (data.rank() != indices.rank() || updates.dims != indices.dims)
    call.refuse("data {}, indices {} and updates {} do not fit", to_string(data.dims),
                to_string(indices.dims), to_string(updates.dims));
  const int64_t axis = normalised_axis(call, call.node.integer("axis", 0), data.rank());
  for (int64_t d = 0; d < data.rank(); ++d) {
    if (d != axis && indices.dims[d] > data.dims[d])
      call.refuse("indices {} reach beyond {}", to_string(indices.dims), to_string(data.dims));
  }
  return check_data(call);
}

void scatter_elements(const RunCall& call) {
  const Tensor &data = call.input(0), &updates = dense(call, 2);
  const int64_t axis = normalised_axis(call, call.node.integer("axis", 0), data.rank());
  const std::vector<int64_t> indices = integers_in(call, 1);
  copy_data(call);
  if (indices.empty()) return;
  std::vector<int64_t> strides = row_major_strides(data.dims);
  const int64_t step = strides[axis], size = data.dims[axis];
  strides[axis] = 0;  // there the index says where
  with_put(call, [&](auto zero, const auto& put) {
    const auto* from = updates.as<decltype(zero)>();
    Odometer at(updates.dims, strides, 0);
    for (size_t i = 0; i < indices.size(); ++i, at.next())
      put(at.offset() + checked_index(call, indices[i], size) * step, from[i]);
  });
}

bool scatter_nd_shape(const ShapeCall& call) {
  const Tensor &data = call.input(0), &indices = call.input(1), &updates = call.input(2);
  const size_t length = indexed_dims(call, 0).size();
  std::vector<int64_t> wanted(indices.dims.begin(), indices.dims.end() - 1);
  wanted.insert(wanted.end(), data.dims.begin() + length, data.dims.end());
  if (updates.dims != wanted)
    call.refuse("updates are {}, not {}", to_string(updates.dims), to_string(wanted));
  return check_data(call);
}

void scatter_nd(const RunCall& call) {
  const Tensor &data = call.input(0), &updates = dense(call, 2);
  const std::span<const int64_t> sizes = indexed_dims(call, 0);
  const int64_t width = product(std::span(data.dims).subspan(sizes.size()));
  const std::vector<int64_t> indices = integers_in(call, 1);
  const auto length = static_cast<int64_t>(sizes.size()),
             count = static_cast<int64_t>(indices.size()) / length;
  copy_data(call);
  with_put(call, [&](auto zero, const auto& put) {
    const auto* from = updates.as<decltype(zero)>();
    for (int64_t i = 0; i < count; ++i) {
      const int64_t place = checked_place(call, &indices[i * length], sizes) * width;
      for (int64_t k = 0; k < width; ++k) put(place + k, from[i * width + k]);
    }
  });
}

}  // namespace packlight::runtime
