#include "exec/operators.h"

namespace packlight::exec {

std::span<const OperatorEntry> convolution_operators() { return {}; }

}  // namespace packlight::exec
