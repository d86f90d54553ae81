#include "exec/operators.h"

namespace packlight::exec {

std::span<const OperatorEntry> recurrent_operators() { return {}; }

}  // namespace packlight::exec
