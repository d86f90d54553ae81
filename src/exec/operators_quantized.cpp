#include "exec/operators.h"

namespace packlight::exec {

std::span<const OperatorEntry> quantized_operators() { return {}; }

}  // namespace packlight::exec
