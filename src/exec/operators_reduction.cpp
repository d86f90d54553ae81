#include "exec/operators.h"

namespace packlight::exec {

std::span<const OperatorEntry> reduction_operators() { return {}; }

}  // namespace packlight::exec
