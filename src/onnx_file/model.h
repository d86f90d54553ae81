#pragma once

#include <onnx/onnx_pb.h>

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "base/mapped_file.h"
#include "codec/dtype.h"
#include "io/tensor_record.h"

namespace packlight::onnx_file {

// An ONNX file: its message, and the bytes of its tensors.
class Model {
 public:
  // Parses the file. Errors: NotFound; Io; Corrupt for bytes that are no ModelProto or hold no
  // graph; Unsupported for more than 2 GB of message (protobuf's limit; larger models keep their
  // tensors in external files).
  static Model read(const std::filesystem::path& path);
  // The same of bytes in memory, which are copied; `path` names them in errors, and external files
  // lie beside it.
  static Model parse(std::span<const std::byte> bytes, std::filesystem::path path);

  const onnx::ModelProto& proto() const { return *proto_; }
  const std::filesystem::path& path() const { return path_; }

  // A tensor of this model (or of `file`, a lone TensorProto): a view of the message's bytes or of
  // the external file, which it keeps alive; typed data fields and 4-bit elements (INT4 as I8,
  // UINT4 as U8) are copied into bytes of their own. Errors: Corrupt naming file and tensor for a
  // shape that the bytes do not fill, a negative dimension, an external file outside the model's
  // folder (by a link, too) or shorter than said; Unsupported for element types that no operator
  // here takes (strings, complex numbers, unsigned 16 to 64 bits, 8-bit floats).
  io::TensorRecord tensor(const onnx::TensorProto& tensor) const;

 private:
  std::span<const std::byte> external_bytes(const onnx::TensorProto& tensor,
                                            std::shared_ptr<const void>* owner) const;

  std::shared_ptr<const onnx::ModelProto> proto_;
  std::filesystem::path path_;
  mutable std::map<std::string, std::shared_ptr<const base::MappedFile>> external_;
};

// A file that holds one TensorProto (the ONNX test data format). Errors: as Model::tensor().
io::TensorRecord read_tensor(const std::filesystem::path& path);

// "FLOAT", "INT4", ... of a TensorProto.DataType, also of those newer than the message definition.
std::string data_type_name(int data_type);

}  // namespace packlight::onnx_file
