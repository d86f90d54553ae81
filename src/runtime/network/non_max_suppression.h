#pragma once

#include "runtime/network/operator.h"

namespace packlight::runtime {

bool non_max_suppression_shape(const ShapeCall& call);
void non_max_suppression(const RunCall& call);

}  // namespace packlight::runtime
