#include "runtime/network/operator.h"

namespace packlight::runtime {

std::span<const Operator> activation_operators() { return {}; }

}  // namespace packlight::runtime
