#pragma once

#include <onnx/onnx_pb.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/atomic_file.h"

namespace packlight::deploy {

// Element types that the message definition at hand is too old to name (onnx.proto).
inline constexpr int kOnnxUint4 = 21, kOnnxInt4 = 22;

// Where the bytes of an ONNX file's tensors go: into the message, or into a data file.
class OnnxTensorStore {
 public:
  // `data`: nullptr to keep all bytes in the message; else a file beside the model, `location` its
  // name there.
  OnnxTensorStore(base::AtomicFile* data, std::string location)
      : data_(data), location_(std::move(location)) {}

  // Appends an initializer. 4-bit elements come packed, the first in the low half of a byte.
  void add(onnx::GraphProto& graph, const std::string& name, int data_type,
           const std::vector<int64_t>& dims, std::span<const std::byte> bytes);

 private:
  base::AtomicFile* data_;
  std::string location_;
};

}  // namespace packlight::deploy
