#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "io/network.h"

namespace packlight::io {

// The form in which a package holds a network: everything but the bytes of its tensors.
// docs/formats/network.md draws it.

// A tensor that is stored beside the JSON: of a constant value, or of a node's attribute.
struct NetworkTensor {
  std::string name;  // as the JSON calls it; unique in the network with all its subgraphs
  const NetworkConstant* constant = nullptr;  // one of these two points into the network
  const TensorRecord* attribute = nullptr;
};

// Errors: InvalidArgument for a name or an attribute that is no UTF-8 text, nesting beyond what is
// read.
Json network_to_json(const Network& network);

// Every tensor that network_to_json() mentions, in the order in which it does.
std::vector<NetworkTensor> network_tensors(const Network& network);

// What the JSON says of a tensor that is stored beside it; sizes are bounded (2^40 elements).
struct NetworkTensorSpec {
  std::string name;
  codec::DType dtype;
  std::vector<int64_t> shape;
  // Packed: dtype, rows, cols and group_size of the tiles; its spans are empty.
  std::optional<codec::EncodedTensor> packed;
  bool symmetric = true;  // of a packed one
};
using NetworkTensorReader = std::function<NetworkConstant(const NetworkTensorSpec&)>;

// tensor: gives what is stored under a name (dense bytes, or packed ones); it must be of the type,
// shape and packing that the JSON says. Safe for hostile JSON: what comes back has every index in
// range, every value made once and before it is used, and If and Loop with the subgraphs that their
// inputs and outputs ask for. Errors: Corrupt naming `origin`, node and rule; what `tensor` throws.
Network network_from_json(const Json& json, const NetworkTensorReader& tensor,
                          std::string_view origin);

// The name under which a package stores the JSON; no tensor of the network is called so.
inline constexpr const char* kNetworkBlob = "network";

inline constexpr int kMaxNetworkNesting = 32;  // subgraphs in subgraphs
inline constexpr size_t kMaxNetworkRank = 64;

}  // namespace packlight::io
