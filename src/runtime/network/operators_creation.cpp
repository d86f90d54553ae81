#include "runtime/network/operator.h"

namespace packlight::runtime {

std::span<const Operator> creation_operators() { return {}; }

}  // namespace packlight::runtime
