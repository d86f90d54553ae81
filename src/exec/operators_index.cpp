#include "exec/operators.h"

namespace packlight::exec {

std::span<const OperatorEntry> index_operators() { return {}; }

}  // namespace packlight::exec
