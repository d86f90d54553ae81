#pragma once

#include <optional>
#include <string>

#include "codec/encoded_tensor.h"

namespace packlight::eval {

// Where two stored weights first differ, in words ("row 3, column 17: code 5, not 4"), or nothing when format, shape,
// codes, scales, zero points and dense values agree bit for bit. `got` is named first.
std::optional<std::string> first_difference(const codec::EncodedTensor& got, const codec::EncodedTensor& want);

}  // namespace packlight::eval
