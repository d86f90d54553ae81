#pragma once

#include <fmt/format.h>

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fail.h"
#include "graph/graph.h"

namespace packlight::graph {

// What a shape rule sees of a node, and where it puts what it finds.
class InferContext {
 public:
  InferContext(Graph& graph, NodeId node_id) : graph_(graph), node_id_(node_id) {}

  const Node& node() const { return graph_.node(node_id_); }
  size_t input_count() const { return node().inputs.size(); }
  size_t output_count() const { return node().outputs.size(); }
  bool has(size_t input) const { return input < input_count() && node().inputs[input] != kNone; }
  // F32 for a weight of any float storage: weights take part in every operator as F32.
  ElementType type(size_t input) const;
  // Nothing when the rank is unknown (or the input absent).
  const std::optional<Shape>& shape(size_t input) const;
  // The integers of an input that is a constant.
  std::optional<std::vector<int64_t>> integers(size_t input) const;

  // Merges into what is already known of the output. Errors: Corrupt when the two contradict.
  void set(size_t output, ElementType type, std::optional<Shape> shape);

  // Throws Corrupt: "[graph] node 'x' (Op): <rule>".
  template <class... Args>
  [[noreturn]] void contradiction(fmt::format_string<Args...> text, Args&&... args) const {
    fail(ErrorCode::kCorrupt, "[graph] node '{}' ({}): {}", node().name, node().op,
         fmt::format(text, std::forward<Args>(args)...));
  }

 private:
  Graph& graph_;
  NodeId node_id_;
};

// The properties of one operator. Adding an operator is adding one entry to its family's table (and
// one to exec/'s).
struct OperatorRule {
  std::string_view op;
  int min_inputs, max_inputs;  // the first min_inputs may not be absent
  int min_outputs, max_outputs;
  void (*infer)(InferContext&);
  std::string_view domain = "";  // ai.onnx
};
inline constexpr int kManyInputs = 1 << 20;

// nullptr for an operator without a rule.
const OperatorRule* find_rule(std::string_view op, std::string_view domain);

// One table per family, in the file of that name.
std::span<const OperatorRule> elementwise_rules();
std::span<const OperatorRule> matrix_rules();
std::span<const OperatorRule> movement_rules();
std::span<const OperatorRule> transformer_rules();

// Helpers that rules share.
// The dimension that a and b broadcast to (numpy rules); nothing when they contradict.
std::optional<Dim> broadcast(const Dim& a, const Dim& b);
std::optional<Shape> broadcast(const InferContext& context, const Shape& a, const Shape& b);
// Whether two dimensions can be the same number.
bool compatible(const Dim& a, const Dim& b);
// What is known when both describe the same dimension (call only when compatible).
Dim merged(const Dim& a, const Dim& b);
// axis in [-rank, rank) -> [0, rank). Errors: Corrupt.
int64_t normalised_axis(const InferContext& context, int64_t axis, int64_t rank);

}  // namespace packlight::graph
