#include "exec/operators.h"

namespace packlight::exec {

std::span<const OperatorEntry> resampling_operators() { return {}; }

}  // namespace packlight::exec
