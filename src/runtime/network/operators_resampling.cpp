#include "runtime/network/operator.h"

namespace packlight::runtime {

std::span<const Operator> resampling_operators() { return {}; }

}  // namespace packlight::runtime
