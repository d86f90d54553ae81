#include "runtime/network/operator.h"

namespace packlight::runtime {

std::span<const Operator> normalization_operators() { return {}; }

}  // namespace packlight::runtime
