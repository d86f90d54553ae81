#include "runtime/network/fuse.h"

#include <algorithm>
#include <vector>

#include "runtime/network/fuse_int8.h"
#include "runtime/network/fused_activation.h"

namespace packlight::runtime {
namespace {

class Fuser {
 public:
  explicit Fuser(io::Network& network) : network_(network), gone_(network.nodes.size()) {}

  uint64_t prepared_bytes() const { return prepared_bytes_; }

  // Whether anything changed.
  bool run() {
    const Producers producers(network_);
    for (io::NetworkNode& node : network_.nodes) {
      const std::optional<uint64_t> bytes = fuse_int8(network_, producers, node);
      changed_ |= bytes.has_value();
      prepared_bytes_ += bytes.value_or(0);
    }
    for (io::NetworkNode& node : network_.nodes) fuse_rounding(producers, node);
    remove_unread();
    for (size_t i = 0; i < network_.nodes.size(); ++i) {
      if (!gone_[i]) fuse_activation(i);
    }
    std::vector<io::NetworkNode> nodes;
    for (size_t i = 0; i < network_.nodes.size(); ++i) {
      if (!gone_[i]) nodes.push_back(std::move(network_.nodes[i]));
    }
    changed_ |= nodes.size() < network_.nodes.size();
    network_.nodes = std::move(nodes);
    return changed_;
  }

 private:
  // What a QuantizeLinear and a DequantizeLinear make for nodes that compute in floats.
  void fuse_rounding(const Producers& producers, io::NetworkNode& node) {
    if (node.op != "DequantizeLinear" || !node.domain.empty() || node.outputs.size() != 1) return;
    const auto rounded = rounded_value(network_, producers, node.outputs[0]);
    if (!rounded || !is_float(network_, rounded->source)) return;
    node.op = "RoundToCodes";
    node.domain = kFusedDomain;
    node.inputs = {rounded->source};
    node.attributes[kXScale] = static_cast<double>(rounded->scale);
    node.attributes[kXZero] = static_cast<int64_t>(rounded->zero);
    changed_ = true;
  }

  // Finds the readers of every value; roundings that nobody reads any more go.
  void remove_unread() {
    readers_.assign(network_.values.size(), {});
    // An output of the network has one reader more than its nodes.
    for (const int32_t id : network_.outputs) readers_[id].push_back(network_.nodes.size());
    for (size_t i = network_.nodes.size(); i-- > 0;) {
      const io::NetworkNode& node = network_.nodes[i];
      const bool rounding =
          node.op == "QuantizeLinear" || node.op == "DequantizeLinear" || node.op == "RoundToCodes";
      if (rounding && node.outputs.size() == 1 && node.outputs[0] != io::kNoValue &&
          readers_[node.outputs[0]].empty()) {
        gone_[i] = true;
        continue;
      }
      for (const int32_t id : node.inputs) {
        if (id != io::kNoValue) readers_[id].push_back(i);
      }
    }
  }

  // The only node that reads output 0 of node `index`; none where several do, or the network's
  // caller.
  std::optional<size_t> only_reader(size_t index) const {
    const io::NetworkNode& node = network_.nodes[index];
    if (node.outputs.size() != 1 || node.outputs[0] == io::kNoValue) return {};
    const std::vector<size_t>& readers = readers_[node.outputs[0]];
    if (readers.size() != 1 || readers[0] == network_.nodes.size()) return {};
    return readers[0];
  }

  void fuse_activation(size_t index) {
    io::NetworkNode& node = network_.nodes[index];
    const bool takes_activation =
        (node.op == "Conv" && node.domain.empty()) ||
        ((node.op == "Int8Conv" || node.op == "Int8MatMul") && node.domain == kFusedDomain);
    if (!takes_activation) return;
    const std::optional<size_t> reader = only_reader(index);
    if (!reader) return;
    const io::NetworkNode& after = network_.nodes[*reader];
    const std::optional<kernels::Activation> activation = activation_of(network_, after);
    if (!activation || after.inputs[0] != node.outputs[0] || after.outputs.size() != 1) return;
    set_fused_activation(*activation, node);
    node.domain = kFusedDomain;
    node.name += node.name.empty() ? after.name : "+" + after.name;
    node.outputs = after.outputs;
    gone_[*reader] = true;
  }

  io::Network& network_;
  std::vector<std::vector<size_t>> readers_;  // by value: nodes
  std::vector<bool> gone_;                    // by node
  bool changed_ = false;
  uint64_t prepared_bytes_ = 0;
};

}  // namespace

FusedNetwork fuse(std::shared_ptr<const io::Network> network) {
  auto fused = std::make_shared<io::Network>(*network);
  Fuser fuser(*fused);
  if (!fuser.run()) return {std::move(network)};
  return {std::move(fused), fuser.prepared_bytes()};
}

}  // namespace packlight::runtime
