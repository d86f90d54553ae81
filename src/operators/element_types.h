#pragma once

#include <cstdint>
#include <optional>

#include "codec/dtype.h"

namespace packlight::operators {

// The type of ONNX's number of an element type (TensorProto.DataType): 16, 32 and 64-bit floats,
// signed integers, U8 and BOOL; nothing for the others.
std::optional<codec::DType> dtype_of_onnx(int64_t number);

}  // namespace packlight::operators
