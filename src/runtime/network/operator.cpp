#include "runtime/network/operator.h"

#include <algorithm>
#include <new>
#include <stdexcept>
#include <unordered_map>

#include "packlight/error.h"
#include "runtime/network/fuse.h"

namespace packlight::runtime {
namespace {

constexpr int64_t kMostElements = int64_t{1}
                                  << 40;  // a shape beyond this is nonsense, not a tensor

}  // namespace

namespace {

std::vector<const Operator*> every_entry() {
  std::vector<const Operator*> entries;
  for (const auto family :
       {activation_operators(), attention_operators(), cast_operators(), convolution_operators(),
        creation_operators(), elementwise_operators(), fused_operators(), index_operators(),
        logic_operators(), matrix_operators(), movement_operators(), normalization_operators(),
        order_operators(), pooling_operators(), quantized_operators(), recurrent_operators(),
        reduction_operators(), resampling_operators(), softmax_operators()}) {
    for (const Operator& entry : family) entries.push_back(&entry);
  }
  return entries;
}

}  // namespace

std::vector<const Operator*> all_operators() {
  std::vector<const Operator*> entries = every_entry();
  std::erase_if(entries, [](const Operator* entry) { return entry->domain == kFusedDomain; });
  return entries;
}

const Operator* find_operator(std::string_view op, std::string_view domain) {
  static const auto table = [] {
    std::unordered_multimap<std::string_view, const Operator*> entries;
    for (const Operator* entry : every_entry()) entries.emplace(entry->op, entry);
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

std::string check_dims(std::span<const int64_t> dims) {
  int64_t elements = 1;
  for (const int64_t dim : dims) {
    if (dim < 0) return "a dimension is negative";
    if (__builtin_mul_overflow(elements, std::max<int64_t>(1, dim), &elements) ||
        elements > kMostElements)
      return "too many elements";
  }
  return "";
}

namespace {

// What an operator throws without saying at which node.
template <class Fn>
auto at_node(const io::NetworkNode& node, const Fn& fn) {
  try {
    return fn();
  } catch (const Error& error) {
    if (std::string_view(error.what()).starts_with("[")) throw;
    fail(error.code(), "{}: {}", node.label(), error.what());
  } catch (const std::bad_alloc&) {
    fail(ErrorCode::kOutOfMemory, "{}: not enough memory", node.label());
  } catch (const std::length_error&) {  // of a vector larger than any memory
    fail(ErrorCode::kOutOfMemory, "{}: not enough memory", node.label());
  }
}

}  // namespace

bool infer(const Operator& op, const io::NetworkNode& node, std::span<const Tensor* const> inputs,
           std::span<Tensor> outputs) {
  const ShapeCall call(node, inputs, outputs);
  for (size_t i = 0; !op.takes_packed && i < inputs.size(); ++i) {
    if (call.has(i) && inputs[i]->packed != nullptr)
      call.refuse("input {} is a packed weight, which this operator does not take", i);
  }
  if (!at_node(node, [&] { return op.shape(call); })) return false;
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (call.wants(i) && !call.has_set(i)) call.refuse("output {} is none that it makes", i);
  }
  return true;
}

void run(const Operator& op, const RunCall& call) {
  at_node(call.node, [&] { op.run(call); });
}

void ShapeCall::set(size_t index, codec::DType dtype, std::vector<int64_t> dims) const {
  if (index >= output_count()) return;
  const std::string wrong = check_dims(dims);
  if (!wrong.empty()) refuse("output {} would have shape {}: {}", index, to_string(dims), wrong);
  set_[index] = true;
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
