#pragma once

#include "runtime/network/operator.h"

namespace packlight::runtime {

// ONNX Attention of opset 23, with one attribute of our own: local_window_size w > 0 lets a query
// see the last w keys only (itself included).
bool attention_shape(const ShapeCall& call);
void attention_run(const RunCall& call);

}  // namespace packlight::runtime
