#pragma once

#include <algorithm>
#include <optional>
#include <span>
#include <vector>

#include "runtime/network/operator.h"

// How operators read the inputs that say what to do (sizes, axes, indices) rather than hold what it
// is done to.
namespace packlight::runtime {

// Elements below which a second thread costs more than it saves.
inline constexpr int64_t kElementGrain = 16384;
// Items of `each` elements that make up that many.
inline int64_t grain_of(int64_t each) {
  return std::max<int64_t>(1, kElementGrain / std::max<int64_t>(1, each));
}

int64_t product(std::span<const int64_t> dims);

// An input whose elements lie there one by one. Errors: InvalidArgument for a packed weight.
const Tensor& dense(const OperatorCall& call, size_t input);

// Errors: InvalidArgument where the two inputs' element types differ.
void require_same_type(const OperatorCall& call, size_t a, size_t b);

// Errors: InvalidArgument where the input is neither I64 nor I32.
void require_integers(const OperatorCall& call, size_t input);

// The integers of an input whose contents are there.
std::vector<int64_t> integers_in(const OperatorCall& call, size_t input);

// The numbers of an input of any type; nothing while its contents are not computed yet.
std::optional<std::vector<double>> numbers_in(const OperatorCall& call, size_t input);

// The one number of an input whose contents are there, cut off to an integer.
int64_t one_integer(const OperatorCall& call, size_t input, std::string_view name);

// Axes of a tensor of that rank, counted from the front, each at most once.
std::vector<int64_t> distinct_axes(const OperatorCall& call, std::vector<int64_t> axes,
                                   int64_t rank);

// 0, 1, ... of that rank.
std::vector<int64_t> all_axes(int64_t rank);

}  // namespace packlight::runtime
