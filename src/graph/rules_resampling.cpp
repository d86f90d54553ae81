#include "graph/operator_rules.h"

namespace packlight::graph {

std::span<const OperatorRule> resampling_rules() { return {}; }

}  // namespace packlight::graph
