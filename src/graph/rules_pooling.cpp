#include "graph/operator_rules.h"

namespace packlight::graph {

std::span<const OperatorRule> pooling_rules() { return {}; }

}  // namespace packlight::graph
