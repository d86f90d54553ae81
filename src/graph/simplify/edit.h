#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace packlight::graph {

// A graph while one pass changes it: knows who uses each value, and keeps that true. Node ids stay
// valid until finish(); a node whose outputs nobody uses any more goes at once, with what only it
// needed, so that uses() counts live nodes only.
class Edit {
 public:
  explicit Edit(Graph& graph);

  Graph& graph() { return graph_; }
  const Graph& graph() const { return graph_; }
  NodeId size() const { return static_cast<NodeId>(graph_.nodes().size()); }
  bool removed(NodeId id) const { return removed_[id]; }
  const Node& node(NodeId id) const { return graph_.node(id); }
  const std::optional<Shape>& shape(ValueId id) const { return graph_.value(id).shape; }

  // The node that makes a value if it is this operator of ai.onnx, else nullptr.
  const Node* maker(ValueId value, std::string_view op) const;
  NodeId producer(ValueId value) const { return graph_.value(value).producer; }
  // Inputs of nodes and graph outputs that name the value.
  int uses(ValueId value) const;
  bool is_output(ValueId value) const;
  // The node that alone uses the value, once; nothing when it is a graph output as well.
  std::optional<NodeId> only_user(ValueId value) const;
  // Made by a node, and used by one input of one node alone: gone when that node goes.
  bool internal(ValueId value) const {
    return producer(value) >= 0 && only_user(value).has_value();
  }

  // Everybody who used `old` uses `by`, which holds the same and is made before. A graph output
  // keeps its name: then the node that makes `by` makes `old` instead. False, and nothing changed,
  // where that is impossible (`by` is a graph input, a weight or a graph output itself).
  bool replace(ValueId old, ValueId by);
  // Puts a node in the place of another, of which it may keep the outputs. Its inputs are made
  // before.
  void put(NodeId at, Node node);
  void set_input(NodeId node, size_t input, ValueId value);  // appends absent ones in between
  // Node `by` makes what node `last` made (output 0 of both), and `last` goes.
  void take_over(NodeId by, NodeId last);
  void remove(NodeId node);
  // `tensor` instead of what input `input` of a node reads: in the weight itself when nobody else
  // uses it (so that its name stays), else in a new one named after `base`.
  void set_weight(NodeId node, size_t input, at::Tensor tensor, const std::string& base);

  // Drops what was removed and what nobody uses; ids change. Returns how many nodes went.
  int finish();

 private:
  void add_use(ValueId value, NodeId user);
  void drop_use(ValueId value, NodeId user);
  void drop_inputs(NodeId node);
  bool rename(ValueId old, ValueId by);

  Graph& graph_;
  std::vector<std::vector<NodeId>> users_;  // by value; a node that reads it twice is there twice
  std::vector<bool> removed_;
};

// Makes a value hold a tensor (contiguous); nothing makes it any more.
void hold(Graph& graph, ValueId value, const at::Tensor& tensor);

}  // namespace packlight::graph
