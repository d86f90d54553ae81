#include "runtime/network/operator.h"

namespace packlight::runtime {

std::span<const Operator> quantized_operators() { return {}; }

}  // namespace packlight::runtime
