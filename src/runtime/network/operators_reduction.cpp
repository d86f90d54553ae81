#include "runtime/network/operator.h"

namespace packlight::runtime {

std::span<const Operator> reduction_operators() { return {}; }

}  // namespace packlight::runtime
