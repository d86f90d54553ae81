#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "eval/network_subject.h"

namespace packlight::eval {

struct NetworkDifference {
  double largest = 0;  // over all outputs and inputs tried: max |a - b| / (max b - min b)
  std::string output;  // where it was found
};

// Runs both networks on the same random inputs: floats normal (mean 0, deviation 1), integers 0 to
// 3, booleans both. Inputs go by name, or by position where names differ; `shapes` fixes dimensions
// that vary (by name of the original's input); those that are left over are 1 for the first and 64
// for others. Errors: InvalidArgument when inputs, outputs or output shapes do not correspond, or
// an output is not finite in one of them alone; those of exec and runtime.
NetworkDifference compare_networks(const NetworkSubject& network, const NetworkSubject& original,
                                   const std::map<std::string, std::vector<int64_t>>& shapes,
                                   uint64_t seed = 0);

}  // namespace packlight::eval
