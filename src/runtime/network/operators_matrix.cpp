#include "runtime/network/operator.h"

namespace packlight::runtime {

std::span<const Operator> matrix_operators() { return {}; }

}  // namespace packlight::runtime
