#include "runtime/network/operator.h"

namespace packlight::runtime {

std::span<const Operator> index_operators() { return {}; }

}  // namespace packlight::runtime
