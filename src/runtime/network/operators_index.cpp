#include <algorithm>
#include <cstring>

#include "runtime/network/non_max_suppression.h"
#include "runtime/network/operands.h"
#include "runtime/network/scatter.h"
#include "runtime/network/strided_view.h"
#include "runtime/network/typed.h"

namespace packlight::runtime {
namespace {

using codec::DType;

int64_t axis_of(const OperatorCall& call) {
  return normalised_axis(call, call.node.integer("axis", 0), call.input(0).rank());
}

// a, then b, then c.
std::vector<int64_t> joined(std::span<const int64_t> a, std::span<const int64_t> b,
                            std::span<const int64_t> c = {}) {
  std::vector<int64_t> out(a.begin(), a.end());
  out.insert(out.end(), b.begin(), b.end());
  out.insert(out.end(), c.begin(), c.end());
  return out;
}

// Output rows of `bytes` each: row i is the data's row place(i).
template <class Place>
void copy_places(const RunCall& call, int64_t count, int64_t bytes, const Place& place) {
  if (bytes == 0) return;
  const std::byte* from = call.input(0).data;
  std::byte* to = call.output(0).data;
  const auto copy = [&](auto size) {
    call.parallel(count, grain_of(size / 4), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        std::memcpy(to + i * size, from + place(i) * size, static_cast<size_t>(size));
    });
  };
  // Single elements as such, without a call for each.
  if (bytes == 4) return copy(std::integral_constant<int64_t, 4>());
  if (bytes == 8) return copy(std::integral_constant<int64_t, 8>());
  copy(bytes);
}

int64_t element_bytes(const Tensor& tensor) { return codec::info(tensor.dtype).block_bytes; }

bool gather_shape(const ShapeCall& call) {
  require_integers(call, 1);
  const Tensor& data = call.input(0);
  const int64_t axis = axis_of(call);
  if (data.packed != nullptr && axis != 0)
    call.refuse("rows of a packed weight are taken along axis 0, not {}", axis);
  const std::span<const int64_t> dims = data.dims;
  call.set(0, data.dtype, joined(dims.first(axis), call.input(1).dims, dims.subspan(axis + 1)));
  return true;
}

// Rows of a packed weight, each decoded where it goes.
void gather_packed(const RunCall& call, const std::vector<int64_t>& indices) {
  const codec::EncodedTensor& packed = *call.input(0).packed;
  if (packed.rows != call.input(0).dims[0])
    call.refuse("a packed weight of {} rows is viewed as {}", packed.rows,
                to_string(call.input(0).dims));
  float* out = call.output(0).as<float>();
  call.parallel(static_cast<int64_t>(indices.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      codec::decode_rows(packed, indices[i], indices[i] + 1, out + i * packed.cols);
  });
}

void gather(const RunCall& call) {
  const Tensor& data = call.input(0);
  const std::span<const int64_t> dims = data.dims;
  const int64_t axis = axis_of(call), size = dims[axis];
  std::vector<int64_t> indices = integers_in(call, 1);
  for (int64_t& index : indices) index = checked_index(call, index, size);
  if (data.packed != nullptr) return gather_packed(call, indices);
  const auto count = static_cast<int64_t>(indices.size());
  copy_places(call, product(dims.first(axis)) * count,
              product(dims.subspan(axis + 1)) * element_bytes(data),
              [&](int64_t i) { return i / count * size + indices[i % count]; });
}

bool gather_elements_shape(const ShapeCall& call) {
  require_integers(call, 1);
  const Tensor &data = call.input(0), &indices = call.input(1);
  if (data.rank() != indices.rank())
    call.refuse("ranks of {} and {} differ", to_string(data.dims), to_string(indices.dims));
  const int64_t axis = axis_of(call);
  for (int64_t d = 0; d < data.rank(); ++d) {
    if (d != axis && indices.dims[d] > data.dims[d])
      call.refuse("indices {} reach beyond {}", to_string(indices.dims), to_string(data.dims));
  }
  call.set(0, data.dtype, indices.dims);
  return true;
}

void gather_elements(const RunCall& call) {
  const Tensor &data = dense(call, 0), &out = call.output(0);
  const int64_t axis = axis_of(call), size = data.dims[axis];
  std::vector<int64_t> strides = row_major_strides(data.dims), indices = integers_in(call, 1);
  if (indices.empty()) return;
  const int64_t step = strides[axis];
  strides[axis] = 0;  // there the index says where
  for (int64_t& index : indices) index = checked_index(call, index, size);
  for_element_size(call, data.dtype, [&](auto zero) {
    const auto* from = data.as<decltype(zero)>();
    auto* to = out.as<decltype(zero)>();
    call.parallel(out.elements(), kElementGrain, [&](int64_t begin, int64_t end) {
      Odometer at(out.dims, strides, begin);
      for (int64_t i = begin; i < end; ++i, at.next())
        to[i] = from[at.offset() + indices[i] * step];
    });
  });
}

bool gather_nd_shape(const ShapeCall& call) {
  require_integers(call, 1);
  const int64_t batch = call.node.integer("batch_dims", 0);
  const size_t length = indexed_dims(call, batch).size();
  const std::span<const int64_t> data = call.input(0).dims, indices = call.input(1).dims;
  if (!std::equal(data.begin(), data.begin() + batch, indices.begin()))
    call.refuse("batch dimensions of {} and {} differ", to_string(data), to_string(indices));
  call.set(0, call.input(0).dtype,
           joined(indices.first(indices.size() - 1), data.subspan(batch + length)));
  return true;
}

void gather_nd(const RunCall& call) {
  const Tensor& data = dense(call, 0);
  const int64_t batch = call.node.integer("batch_dims", 0);
  const std::span<const int64_t> dims = data.dims, sizes = indexed_dims(call, batch);
  const std::vector<int64_t> indices = integers_in(call, 1);
  const auto length = static_cast<int64_t>(sizes.size()),
             count = static_cast<int64_t>(indices.size()) / length;
  if (count == 0) return;
  const int64_t rows = product(sizes), each = count / product(dims.first(batch));  // of one batch
  std::vector<int64_t> places(count);
  for (int64_t i = 0; i < count; ++i)
    places[i] = i / each * rows + checked_place(call, &indices[i * length], sizes);
  copy_places(call, count, product(dims.subspan(batch + length)) * element_bytes(data),
              [&](int64_t i) { return places[i]; });
}

// Where the input is not zero, in row-major order.
std::vector<int64_t> marked_places(const OperatorCall& call, size_t input) {
  const Tensor& x = dense(call, input);
  std::vector<int64_t> places;
  const auto collect = [&](const auto* from) {
    for (int64_t i = 0; i < x.elements(); ++i) {
      if (from[i] != 0) places.push_back(i);
    }
  };
  if (x.dtype == DType::kBool)
    collect(x.as<uint8_t>());
  else
    for_number_type(call, x.dtype, [&](auto zero) { collect(x.as<decltype(zero)>()); });
  return places;
}

bool non_zero_shape(const ShapeCall& call) {
  if (!call.input(0).has_data()) return false;
  call.set(0, DType::kI64,
           {call.input(0).rank(), static_cast<int64_t>(marked_places(call, 0).size())});
  return true;
}

void non_zero(const RunCall& call) {
  const std::vector<int64_t> places = marked_places(call, 0), &dims = call.input(0).dims;
  const size_t count = places.size();
  for (size_t i = 0; i < count; ++i) {
    int64_t rest = places[i];
    for (size_t d = dims.size(); d-- > 0;) {
      call.output(0).as<int64_t>()[d * count + i] = rest % dims[d];
      rest /= dims[d];
    }
  }
}

// Without an axis the elements of all are one.
std::vector<int64_t> compressed_dims(const OperatorCall& call, int64_t& axis) {
  const Tensor& x = call.input(0);
  const bool flat = call.node.attributes.count("axis") == 0;
  axis = flat ? 0 : axis_of(call);
  return flat ? std::vector<int64_t>{x.elements()} : x.dims;
}

// A condition shorter than the axis leaves the rest out.
bool compress_shape(const ShapeCall& call) {
  int64_t axis = 0;
  std::vector<int64_t> dims = compressed_dims(call, axis);
  const Tensor& condition = call.input(1);
  if (condition.dtype != DType::kBool || condition.rank() != 1 || condition.dims[0] > dims[axis])
    call.refuse("a condition of {} {} for an axis of {}", codec::info(condition.dtype).name,
                to_string(condition.dims), dims[axis]);
  if (!condition.has_data()) return false;
  dims[axis] = static_cast<int64_t>(marked_places(call, 1).size());
  call.set(0, call.input(0).dtype, std::move(dims));
  return true;
}

void compress(const RunCall& call) {
  int64_t axis = 0;
  const std::vector<int64_t> all = compressed_dims(call, axis), places = marked_places(call, 1);
  const std::span<const int64_t> dims = all;
  const auto count = static_cast<int64_t>(places.size());
  copy_places(call, product(dims.first(axis)) * count,
              product(dims.subspan(axis + 1)) * element_bytes(dense(call, 0)),
              [&](int64_t i) { return i / count * dims[axis] + places[i % count]; });
}

bool reverse_sequence_shape(const ShapeCall& call) {
  require_integers(call, 1);
  const Tensor &x = call.input(0), &lengths = call.input(1);
  const int64_t batch = normalised_axis(call, call.node.integer("batch_axis", 1), x.rank()),
                time = normalised_axis(call, call.node.integer("time_axis", 0), x.rank());
  if (batch == time) call.refuse("batch_axis and time_axis are both {}", batch);
  if (lengths.rank() != 1 || lengths.dims[0] != x.dims[batch])
    call.refuse("lengths {} for {} sequences", to_string(lengths.dims), x.dims[batch]);
  call.set(0, x.dtype, x.dims);
  return true;
}

// Each sequence's first elements, as many as its length, are turned round.
void reverse_sequence(const RunCall& call) {
  const Tensor& x = dense(call, 0);
  const int64_t batch = normalised_axis(call, call.node.integer("batch_axis", 1), x.rank()),
                time = normalised_axis(call, call.node.integer("time_axis", 0), x.rank());
  const int64_t steps = x.dims[time];
  const std::vector<int64_t> lengths = integers_in(call, 1), strides = row_major_strides(x.dims);
  for (const int64_t length : lengths) {
    if (length < 0 || length > steps) call.refuse("length {} is outside [0, {}]", length, steps);
  }
  if (x.elements() == 0) return;
  const auto last = static_cast<size_t>(std::max(batch, time));  // what follows stays together
  const int64_t width = strides[last];
  copy_places(call, x.elements() / width, width * element_bytes(x), [&](int64_t row) {
    const int64_t at = row * width, step = at / strides[time] % steps;
    const int64_t length = lengths[at / strides[batch] % x.dims[batch]];
    return step < length ? row + (length - 1 - 2 * step) * (strides[time] / width) : row;
  });
}

constexpr Operator kOperators[] = {
    {.op = "Gather", .shape = gather_shape, .run = gather, .takes_packed = true},
    {"GatherElements", gather_elements_shape, gather_elements},
    {"GatherND", gather_nd_shape, gather_nd},
    {"ScatterElements", scatter_elements_shape, scatter_elements},
    {"ScatterND", scatter_nd_shape, scatter_nd},
    {"NonZero", non_zero_shape, non_zero},
    {"Compress", compress_shape, compress},
    {"NonMaxSuppression", non_max_suppression_shape, non_max_suppression},
    {"ReverseSequence", reverse_sequence_shape, reverse_sequence},
};

}  // namespace

std::span<const Operator> index_operators() { return kOperators; }

}  // namespace packlight::runtime
