#include "runtime/network/operator.h"

namespace packlight::runtime {

std::span<const Operator> convolution_operators() { return {}; }

}  // namespace packlight::runtime
