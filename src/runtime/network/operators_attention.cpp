#include "runtime/network/operator.h"

namespace packlight::runtime {

std::span<const Operator> attention_operators() { return {}; }

}  // namespace packlight::runtime
