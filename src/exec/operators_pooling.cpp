#include "exec/operators.h"

namespace packlight::exec {

std::span<const OperatorEntry> pooling_operators() { return {}; }

}  // namespace packlight::exec
