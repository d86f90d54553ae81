#pragma once

#include <onnx/onnx_pb.h>

#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "io/tensor_record.h"

namespace packlight::onnx_file {

// A TensorProto as a record. `bytes`: its data when it lies in an external file; else raw_data (a
// view that `owner` keeps alive) or the typed field of its element type (copied). Errors: as
// Model::tensor().
io::TensorRecord record_of(const onnx::TensorProto& tensor,
                           std::optional<std::span<const std::byte>> bytes,
                           std::shared_ptr<const void> owner, std::string_view origin);

}  // namespace packlight::onnx_file
