#include "runtime/network/operator.h"

namespace packlight::runtime {

std::span<const Operator> recurrent_operators() { return {}; }

}  // namespace packlight::runtime
