#include "graph/operator_rules.h"

namespace packlight::graph {

std::span<const OperatorRule> convolution_rules() { return {}; }

}  // namespace packlight::graph
