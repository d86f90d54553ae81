#include "exec/operators.h"

namespace packlight::exec {

std::span<const OperatorEntry> normalization_operators() { return {}; }

}  // namespace packlight::exec
