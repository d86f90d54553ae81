#pragma once

#include "runtime/network/operator.h"

namespace packlight::runtime {

bool einsum_shape(const ShapeCall& call);
void einsum(const RunCall& call);

}  // namespace packlight::runtime
