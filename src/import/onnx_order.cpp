#include "import/onnx_order.h"

#include <string_view>
#include <unordered_map>

#include "base/fail.h"

namespace packlight::import {
namespace {

using Nodes = std::vector<const onnx::NodeProto*>;
using Makers = std::unordered_map<std::string_view, size_t>;

// Names a node reads, those that its subgraphs read among them (their own values, which are in no
// list of makers, do no harm).
void collect_reads(const onnx::NodeProto& node, std::vector<std::string_view>& reads) {
  reads.insert(reads.end(), node.input().begin(), node.input().end());
  for (const onnx::AttributeProto& attribute : node.attribute()) {
    if (!attribute.has_g()) continue;
    for (const onnx::NodeProto& inner : attribute.g().node()) collect_reads(inner, reads);
    for (const onnx::ValueInfoProto& output : attribute.g().output())
      reads.push_back(output.name());
  }
}

class Order {
 public:
  Order(const Nodes& nodes, const std::string& origin)
      : nodes_(nodes), origin_(origin), state_(nodes.size(), kNew) {
    for (size_t i = 0; i < nodes.size(); ++i) {
      for (const std::string& output : nodes[i]->output()) {
        if (!output.empty()) makers_.emplace(output, i);
      }
    }
  }

  Nodes run() {
    for (size_t i = 0; i < nodes_.size(); ++i) visit(i);
    return std::move(ordered_);
  }

 private:
  enum State : uint8_t { kNew, kOpen, kDone };
  struct Frame {
    size_t node;
    std::vector<std::string_view> reads;
    size_t next = 0;
  };

  Frame open(size_t node) {
    state_[node] = kOpen;
    Frame frame{node, {}, 0};
    collect_reads(*nodes_[node], frame.reads);
    return frame;
  }

  // Depth first, without recursion: a chain may be as long as the file.
  void visit(size_t first) {
    if (state_[first] != kNew) return;
    std::vector<Frame> stack;
    stack.push_back(open(first));
    while (!stack.empty()) {
      Frame& frame = stack.back();
      if (frame.next == frame.reads.size()) {
        state_[frame.node] = kDone;
        ordered_.push_back(nodes_[frame.node]);
        stack.pop_back();
        continue;
      }
      const std::string_view name = frame.reads[frame.next++];
      const auto maker = makers_.find(name);
      if (maker == makers_.end() || state_[maker->second] == kDone) continue;
      if (state_[maker->second] == kOpen) {
        fail(ErrorCode::kCorrupt,
             "[onnx] '{}': the graph is cyclic: node '{}' ({}) needs '{}', which depends on it",
             origin_, nodes_[frame.node]->name(), nodes_[frame.node]->op_type(), name);
      }
      stack.push_back(open(maker->second));
    }
  }

  const Nodes& nodes_;
  const std::string& origin_;
  std::vector<State> state_;
  Makers makers_;
  Nodes ordered_;
};

}  // namespace

Nodes in_order(const Nodes& nodes, const std::string& origin) { return Order(nodes, origin).run(); }

}  // namespace packlight::import
