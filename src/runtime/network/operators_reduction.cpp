#include <cmath>

#include "runtime/network/convert.h"
#include "runtime/network/fast_math.h"
#include "runtime/network/reduce.h"

namespace packlight::runtime {
namespace {

using codec::DType;

std::vector<bool> taken_axes(const OperatorCall& call, std::span<const int64_t> axes) {
  const int64_t rank = call.input(0).rank();
  const bool none = call.node.integer("noop_with_empty_axes", 0) != 0;
  std::vector<bool> taken(rank, axes.empty() && !none);
  for (const int64_t given : axes) {
    const int64_t axis = normalised_axis(call, given, rank);
    if (taken[axis]) call.refuse("axis {} is given twice", given);
    taken[axis] = true;
  }
  return taken;
}

bool reduction_shape(const ShapeCall& call) {
  const Tensor& x = dense(call, 0);
  std::vector<int64_t> axes;
  if (call.has(1)) {
    dense(call, 1);
    const auto given = call.integers(1);
    if (!given) return false;
    axes = *given;
  }
  const std::vector<bool> taken = taken_axes(call, axes);
  const bool keep = call.node.integer("keepdims", 1) != 0;
  std::vector<int64_t> dims;
  for (size_t d = 0; d < taken.size(); ++d) {
    if (!taken[d])
      dims.push_back(x.dims[d]);
    else if (keep)
      dims.push_back(1);
  }
  call.set(0, x.dtype, std::move(dims));
  return true;
}

bool number_reduction_shape(const ShapeCall& call) {
  const DType dtype = call.input(0).dtype;
  if (dtype != DType::kF32 && dtype != DType::kI32 && dtype != DType::kI64)
    call.refuse("input 0 is {}, not F32, I32 or I64", codec::info(dtype).name);
  return reduction_shape(call);
}

template <class T>
constexpr bool kIsFloat = std::is_floating_point_v<T>;

// Floats add up as doubles, integers wrap round.
template <class T>
using SumOf = std::conditional_t<kIsFloat<T>, double, uint64_t>;

template <class T>
struct Summing {
  static constexpr bool kSecondPass = false;
  using Sum = SumOf<T>;
  static Sum start() { return 0; }
  static Sum join(Sum a, Sum b) { return a + b; }
  static Sum step(Sum sum, T x, T) { return sum + static_cast<Sum>(x); }
  static T finish(Sum sum, int64_t, T) { return static_cast<T>(sum); }
};

template <class T>
struct SumOfMagnitudes : Summing<T> {
  using Sum = SumOf<T>;
  static Sum step(Sum sum, T x, T) {
    const auto term = static_cast<Sum>(x);
    return sum + (x < 0 ? Sum{0} - term : term);
  }
};

template <class T>
struct SumOfSquares : Summing<T> {
  using Sum = SumOf<T>;
  static Sum step(Sum sum, T x, T) { return sum + static_cast<Sum>(x) * static_cast<Sum>(x); }
};

template <class T>
struct Product : Summing<T> {
  using Sum = SumOf<T>;
  static Sum start() { return 1; }
  static Sum join(Sum a, Sum b) { return a * b; }
  static Sum step(Sum product, T x, T) { return product * static_cast<Sum>(x); }
};

// What is defined for floats only: integers are doubles on the way and truncated after it.
template <class T>
struct SummingAsFloats : Summing<T> {
  using Sum = double;
  static Sum start() { return 0; }
  static Sum join(Sum a, Sum b) { return a + b; }
  static Sum step(Sum sum, T x, T) { return sum + static_cast<double>(x); }
};

template <class T>
struct Mean : SummingAsFloats<T> {
  static T finish(double sum, int64_t count, T) {
    return convert<T>(sum / static_cast<double>(count));
  }
};

template <class T>
struct Norm : SummingAsFloats<T> {
  static double step(double sum, T x, T) {
    const auto term = static_cast<double>(x);
    return sum + term * term;
  }
  static T finish(double sum, int64_t, T) { return convert<T>(std::sqrt(sum)); }
};

template <class T>
struct LogSum : SummingAsFloats<T> {
  static T finish(double sum, int64_t, T) { return convert<T>(std::log(sum)); }
};

// After a first pass that leaves the largest element in the output.
template <class T>
struct LogSumExp : SummingAsFloats<T> {
  static constexpr bool kSecondPass = true;
  // Infinity minus itself would be NaN.
  static double shift(T largest) {
    if constexpr (kIsFloat<T>)
      return magnitude(largest) == HUGE_VALF ? 0 : largest;
    else
      return static_cast<double>(largest);
  }
  static double step(double sum, T x, T largest) {
    if constexpr (kIsFloat<T>)
      return sum + fast_exp(x - static_cast<T>(shift(largest)));
    else
      return sum + std::exp(static_cast<double>(x) - shift(largest));
  }
  static T finish(double sum, int64_t, T largest) {
    return convert<T>(std::log(sum) + (sum == 0 ? 0 : shift(largest)));
  }
};

// NaN if an element is; of no elements the one that every element beats.
template <class T>
struct Largest : Summing<T> {
  using Sum = T;
  static T start() {
    if constexpr (kIsFloat<T>)
      return -std::numeric_limits<T>::infinity();
    else
      return std::numeric_limits<T>::min();
  }
  static T join(T a, T b) { return b > a || b != b ? b : a; }
  static T step(T best, T x, T) { return join(best, x); }
  static T finish(T best, int64_t, T) { return best; }
};

template <class T>
struct Smallest : Largest<T> {
  static T start() {
    if constexpr (kIsFloat<T>)
      return std::numeric_limits<T>::infinity();
    else
      return std::numeric_limits<T>::max();
  }
  static T join(T a, T b) { return b < a || b != b ? b : a; }
  static T step(T best, T x, T) { return join(best, x); }
};

ReduceWalk walk_of(const RunCall& call) {
  const auto axes = call.has(1) ? integers_of(call.input(1)) : std::vector<int64_t>{};
  return {call.input(0).dims, taken_axes(call, axes)};
}

template <template <class> class Reduction>
void reduce(const RunCall& call) {
  const ReduceWalk walk = walk_of(call);
  for_number_type(call, call.input(0).dtype, [&](auto zero) {
    using T = decltype(zero);
    Reducer<Reduction<T>, T>(call, walk).run();
  });
}

void log_sum_exp(const RunCall& call) {
  reduce<Largest>(call);
  reduce<LogSumExp>(call);
}

// Also of BOOL: whether any (all) are true.
template <template <class> class Reduction>
void extreme(const RunCall& call) {
  if (call.input(0).dtype != DType::kBool) return reduce<Reduction>(call);
  Reducer<Reduction<uint8_t>, uint8_t>(call, walk_of(call)).run();
  uint8_t* y = call.output(0).as<uint8_t>();
  std::transform(y, y + call.output(0).elements(), y,
                 [](uint8_t byte) { return static_cast<uint8_t>(byte != 0); });
}

constexpr Operator kOperators[] = {
    {"ReduceL1", number_reduction_shape, reduce<SumOfMagnitudes>},
    {"ReduceL2", number_reduction_shape, reduce<Norm>},
    {"ReduceLogSum", number_reduction_shape, reduce<LogSum>},
    {"ReduceLogSumExp", number_reduction_shape, log_sum_exp},
    {"ReduceMax", reduction_shape, extreme<Largest>},
    {"ReduceMean", number_reduction_shape, reduce<Mean>},
    {"ReduceMin", reduction_shape, extreme<Smallest>},
    {"ReduceProd", number_reduction_shape, reduce<Product>},
    {"ReduceSum", number_reduction_shape, reduce<Summing>},
    {"ReduceSumSquare", number_reduction_shape, reduce<SumOfSquares>},
};

}  // namespace

std::span<const Operator> reduction_operators() { return kOperators; }

}  // namespace packlight::runtime
