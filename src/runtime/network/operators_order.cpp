#include <numeric>

#include "runtime/network/axis.h"
#include "runtime/network/elementwise.h"

namespace packlight::runtime {
namespace {

using codec::DType;

// Lines along the axis, in parallel.
template <class Fn>
void for_each_line(const RunCall& call, const AxisView& view, const Fn& fn) {
  call.parallel(view.outer * view.inner, view.lines_at_least(kElementGrain / 8), fn);
}

bool arg_shape(const ShapeCall& call) {
  const Tensor& x = dense(call, 0);
  const int64_t axis = normalised_axis(call, call.node.integer("axis", 0), x.rank());
  if (x.dims[axis] == 0) call.refuse("axis {} of {} is empty", axis, to_string(x.dims));
  std::vector<int64_t> dims = x.dims;
  if (call.node.integer("keepdims", 1) != 0)
    dims[axis] = 1;
  else
    dims.erase(dims.begin() + axis);
  call.set(0, DType::kI64, std::move(dims));
  return true;
}

// NaN comes before every number, from whichever end one counts.
template <bool greatest, class T>
bool beats(T x, T best) {
  if (best != best) return false;
  return x != x || (greatest ? x > best : x < best);
}

// The first place of the extreme, or the last one.
template <bool greatest, class T>
int64_t place_of_extreme(const T* x, int64_t n, int64_t step, bool last) {
  int64_t place = 0;
  T best = x[0];
  for (int64_t i = 1; i < n; ++i) {
    const T value = x[i * step];
    const bool ties = value == best || (value != value && best != best);
    if (beats<greatest>(value, best) || (last && ties)) {
      best = value;
      place = i;
    }
  }
  return place;
}

template <bool greatest>
void arg(const RunCall& call) {
  const AxisView view(call, call.node.integer("axis", 0));
  const bool last = call.node.integer("select_last_index", 0) != 0;
  for_number_type(call, call.input(0).dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* x = call.input(0).as<T>();
    int64_t* y = call.output(0).as<int64_t>();
    for_each_line(call, view, [&](int64_t begin, int64_t end) {
      for (int64_t line = begin; line < end; ++line) {
        const T* from = x + view.start(line, view.size);
        y[line] = place_of_extreme<greatest>(from, view.size, view.inner, last);
      }
    });
  });
}

bool top_k_shape(const ShapeCall& call) {
  const Tensor& x = dense(call, 0);
  const int64_t axis = normalised_axis(call, call.node.integer("axis", -1), x.rank());
  dense(call, 1);
  const auto k = call.integers(1);
  if (!k) return false;
  if (k->size() != 1 || (*k)[0] < 0 || (*k)[0] > x.dims[axis])
    call.refuse("k is {} for an axis of size {}", to_string(*k), x.dims[axis]);
  std::vector<int64_t> dims = x.dims;
  dims[axis] = (*k)[0];
  call.set(1, DType::kI64, dims);
  call.set(0, x.dtype, std::move(dims));
  return true;
}

// Of equal elements the one with the lower index comes first; NaN is greater than any number.
template <class T>
void top_k_of(const RunCall& call, const AxisView& view, int64_t k, bool largest) {
  const T* x = call.input(0).as<T>();
  T* values = call.wants(0) ? call.output(0).as<T>() : nullptr;
  int64_t* places = call.wants(1) ? call.output(1).as<int64_t>() : nullptr;
  for_each_line(call, view, [&](int64_t begin, int64_t end) {
    std::vector<T> line_values(view.size);
    std::vector<int64_t> order(view.size);
    const auto before = [&](int64_t a, int64_t b) {
      const T left = line_values[a], right = line_values[b];
      const bool left_is_more = left > right || (left != left && right == right),
                 right_is_more = right > left || (right != right && left == left);
      if (left_is_more == right_is_more) return a < b;
      return largest ? left_is_more : right_is_more;
    };
    for (int64_t line = begin; line < end; ++line) {
      const T* from = x + view.start(line, view.size);
      for (int64_t i = 0; i < view.size; ++i) line_values[i] = from[i * view.inner];
      std::iota(order.begin(), order.end(), 0);
      std::partial_sort(order.begin(), order.begin() + k, order.end(), before);
      const int64_t to = view.start(line, k);
      for (int64_t i = 0; i < k; ++i) {
        if (values != nullptr) values[to + i * view.inner] = line_values[order[i]];
        if (places != nullptr) places[to + i * view.inner] = order[i];
      }
    }
  });
}

void top_k(const RunCall& call) {
  const AxisView view(call, call.node.integer("axis", -1));
  const int64_t k = integers_of(call.input(1)).at(0);
  const bool largest = call.node.integer("largest", 1) != 0;
  for_number_type(call, call.input(0).dtype,
                  [&](auto zero) { top_k_of<decltype(zero)>(call, view, k, largest); });
}

bool cum_sum_shape(const ShapeCall& call) {
  if (dense(call, 1).elements() != 1) call.refuse("axis has {} elements", call.input(1).elements());
  if (const auto axis = call.integers(1)) normalised_axis(call, (*axis)[0], call.input(0).rank());
  return same_shape(call);
}

// Exclusive: each place gets the sum of those before it.
template <class T>
void cum_sum_of(const RunCall& call, const AxisView& view) {
  using Sum = std::conditional_t<std::is_floating_point_v<T>, double, uint64_t>;
  const bool exclusive = call.node.integer("exclusive", 0) != 0,
             reverse = call.node.integer("reverse", 0) != 0;
  const T* x = call.input(0).as<T>();
  T* y = call.output(0).as<T>();
  for_each_line(call, view, [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line) {
      const int64_t start = view.start(line, view.size);
      Sum sum = 0;
      for (int64_t i = 0; i < view.size; ++i) {
        const int64_t at = start + (reverse ? view.size - 1 - i : i) * view.inner;
        const Sum with = sum + static_cast<Sum>(x[at]);
        y[at] = static_cast<T>(exclusive ? sum : with);
        sum = with;
      }
    }
  });
}

void cum_sum(const RunCall& call) {
  const AxisView view(call, integers_of(call.input(1)).at(0));
  for_number_type(call, call.input(0).dtype,
                  [&](auto zero) { cum_sum_of<decltype(zero)>(call, view); });
}

constexpr Operator kOperators[] = {
    {"ArgMax", arg_shape, arg<true>},
    {"ArgMin", arg_shape, arg<false>},
    {"CumSum", cum_sum_shape, cum_sum},
    {"TopK", top_k_shape, top_k},
};

}  // namespace

std::span<const Operator> order_operators() { return kOperators; }

}  // namespace packlight::runtime
