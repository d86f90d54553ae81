#include "runtime/network/operator.h"

#include <algorithm>
#include <unordered_map>

namespace packlight::runtime {
namespace {

constexpr int64_t kMostElements = int64_t{1}
                                  << 40;  // a shape beyond this is nonsense, not a tensor

}  // namespace

const Operator* find_operator(std::string_view op, std::string_view domain) {
  static const auto table = [] {
    std::unordered_multimap<std::string_view, const Operator*> entries;
    for (const auto family :
         {activation_operators(), attention_operators(), cast_operators(), convolution_operators(),
          creation_operators(), elementwise_operators(), index_operators(), logic_operators(),
          matrix_operators(), movement_operators(), normalization_operators(), order_operators(),
          pooling_operators(), quantized_operators(), recurrent_operators(), reduction_operators(),
          resampling_operators(), softmax_operators()}) {
      for (const Operator& entry : family) entries.emplace(entry.op, &entry);
    }
    return entries;
  }();
  const auto [begin, end] = table.equal_range(op);
  for (auto it = begin; it != end; ++it) {
    if (it->second->domain == domain) return it->second;
  }
  return nullptr;
}

const Tensor& OperatorCall::input(size_t index) const {
  if (!has(index)) refuse("input {} is missing", index);
  return *inputs_[index];
}

void ShapeCall::set(size_t index, codec::DType dtype, std::vector<int64_t> dims) const {
  if (index >= output_count()) return;
  int64_t elements = 1;
  for (const int64_t dim : dims) {
    if (dim < 0) refuse("output {} would have shape {}", index, to_string(dims));
    if (__builtin_mul_overflow(elements, dim, &elements) || elements > kMostElements)
      refuse("output {} would have shape {}, too many elements", index, to_string(dims));
  }
  output(index).dtype = dtype;
  output(index).dims = std::move(dims);
}

std::optional<std::vector<int64_t>> ShapeCall::integers(size_t index) const {
  if (!has(index) || !input(index).has_data()) return std::nullopt;
  return integers_of(input(index));
}

std::vector<int64_t> broadcast(const OperatorCall& call, std::span<const int64_t> a,
                               std::span<const int64_t> b) {
  std::vector<int64_t> out(std::max(a.size(), b.size()));
  for (size_t i = 0; i < out.size(); ++i) {  // from the last dimension on
    const int64_t left = i < a.size() ? a[a.size() - 1 - i] : 1,
                  right = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (left != right && left != 1 && right != 1)
      call.refuse("shapes {} and {} do not broadcast", to_string(a), to_string(b));
    out[out.size() - 1 - i] = left == 1 ? right : left;
  }
  return out;
}

int64_t normalised_axis(const OperatorCall& call, int64_t axis, int64_t rank) {
  if (axis < -rank || axis >= rank)
    call.refuse("axis {} is outside a tensor of rank {}", axis, rank);
  return axis < 0 ? axis + rank : axis;
}

}  // namespace packlight::runtime
