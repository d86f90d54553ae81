#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/attributes.h"
#include "codec/encoded_tensor.h"
#include "io/tensor_record.h"

namespace packlight::io {

// A network as a device runs it: operators of ONNX (opset 23) over numbered values, without
// LibTorch and protobuf. What deploy/ writes into a package and runtime/ reads.
struct Network;

inline constexpr int32_t kNoValue = -1;  // an optional input or output that is absent

// A dimension: a number, or the name of one that stands for the same number everywhere, or unknown.
struct NetworkDim {
  int64_t value = -1;
  std::string symbol;
  bool operator==(const NetworkDim&) const = default;
};

// A value that never changes. Dense: `record`, with `packed.data` empty. Packed: tiles of a matrix
// [rows, cols] whose rows are the first dimension of record.shape; record.bytes is empty then.
struct NetworkConstant {
  TensorRecord record;
  codec::EncodedTensor packed;
  bool is_packed() const { return !packed.data.empty(); }
};

struct NetworkValue {
  std::string name;  // unique
  std::optional<codec::DType> dtype;
  std::optional<std::vector<NetworkDim>> shape;  // absent: not known before it runs
  std::optional<NetworkConstant> constant;
};

struct NetworkNode {
  std::string name, op, domain;
  std::vector<int32_t> inputs, outputs;  // indices of values, kNoValue where absent
  base::Attributes<TensorRecord, std::shared_ptr<const Network>> attributes;
  // If and Loop: the last `captures` inputs are outer values that the subgraphs use as their last
  // inputs.
  int captures = 0;

  int64_t integer(std::string_view attribute, int64_t fallback) const {
    return attributes.integer(attribute, fallback, label());
  }
  double number(std::string_view attribute, double fallback) const {
    return attributes.number(attribute, fallback, label());
  }
  std::string text(std::string_view attribute, std::string_view fallback) const {
    return attributes.text(attribute, fallback, label());
  }
  std::vector<int64_t> integers(std::string_view attribute) const {
    return attributes.integers(attribute, label());
  }
  std::string label() const;  // "[runtime] node 'x' (Op)"
};

struct Network {
  std::string name;
  std::vector<NetworkValue> values;
  std::vector<NetworkNode> nodes;  // in an order in which every value is made before it is used
  std::vector<int32_t> inputs, outputs;
  std::map<std::string, std::string> metadata;  // what its file said besides: an alphabet, say
};

}  // namespace packlight::io
