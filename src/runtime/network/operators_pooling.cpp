#include "runtime/network/operator.h"

namespace packlight::runtime {

std::span<const Operator> pooling_operators() { return {}; }

}  // namespace packlight::runtime
