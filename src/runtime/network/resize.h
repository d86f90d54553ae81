#pragma once

#include "runtime/network/operator.h"

namespace packlight::runtime {

bool resize_shape(const ShapeCall& call);
void resize(const RunCall& call);

}  // namespace packlight::runtime
