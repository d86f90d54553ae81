#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "codec/encoded_tensor.h"
#include "graph/zero_pattern.h"

namespace packlight::graph {

using ValueId = int32_t;
using NodeId = int32_t;
inline constexpr ValueId kNone = -1;  // an optional input that is absent

// A dimension: a number, or a name ("batch", "sequence") that stands for one number throughout a
// graph, or unknown (value -1 and no name).
struct Dim {
  int64_t value = -1;
  std::string symbol;
  Dim() = default;
  Dim(int64_t v) : value(v) {}                        // NOLINT(google-explicit-constructor)
  Dim(std::string name) : symbol(std::move(name)) {}  // NOLINT(google-explicit-constructor)
  bool known() const { return value >= 0; }
  bool operator==(const Dim&) const = default;
};
using Shape = std::vector<Dim>;
std::string to_string(const Shape& shape);

// ONNX element types that the graph distinguishes.
enum class ElementType : uint8_t {
  kUndefined,
  kF32,
  kF16,
  kBF16,
  kF64,
  kI64,
  kI32,
  kI16,
  kI8,
  kU8,
  kBool,
  kString
};

// The bytes of an initializer: a dense tensor in its own dtype (checkpoint weights are views of the
// mapped file), or an encoded matrix (GGML blocks, Packlight tiles) in checkpoint orientation
// [out_features, in_features].
using Weight = std::variant<at::Tensor, codec::EncodedTensor>;

// How an activation is quantized at run time; absent = float.
enum class ActivationQuant : uint8_t {
  kNone,
  kInt8PerToken32
};  // the second: symmetric INT8, scale per token and 32 columns

struct Value {
  std::string name;  // unique in the graph; weights carry their checkpoint name
  ElementType type = ElementType::kUndefined;
  std::optional<Shape> shape;  // absent: rank unknown
  std::optional<Weight> weight;
  // A pruned weight: its zeros are a mask, which whatever changes the weight later keeps. The zeros
  // themselves say where; this says that they are meant, and where others would have to lie.
  std::optional<ZeroPattern> zeros;
  NodeId producer = -1;  // -1: graph input or weight
};

class Graph;
using Attribute =
    std::variant<int64_t, double, std::string, std::vector<int64_t>, std::vector<double>,
                 std::vector<std::string>, at::Tensor, std::shared_ptr<Graph>>;

// One ONNX operator (domain "" is ai.onnx at opset 23).
struct Node {
  std::string name;  // unique, stable
  std::string op;
  std::string domain;
  std::vector<ValueId> inputs, outputs;
  std::map<std::string, Attribute> attributes;
  std::string block;  // layer it belongs to: "embed", "model.layers.0", ..., "head"
  ActivationQuant input_quant = ActivationQuant::kNone;  // of input 0 of a linear operator
  // If and Loop only: the last `captures` inputs are outer values that the subgraphs use; they are
  // the last `captures` graph inputs of each subgraph, in the same order. (ONNX leaves this
  // implicit: a subgraph sees every outer name.)
  int captures = 0;

  int64_t integer(std::string_view attribute, int64_t fallback) const;
  double number(std::string_view attribute, double fallback) const;
  std::string text(std::string_view attribute, std::string_view fallback) const;
  std::vector<int64_t> integers(std::string_view attribute) const;  // empty when absent
};

// A network: nodes in an order in which every value is made before it is used. Copying is cheap for
// weights (shared).
class Graph {
 public:
  std::string name;
  std::string origin;  // file or folder its weights come from, for messages
  std::vector<ValueId> inputs, outputs;

  ValueId add_value(Value value);  // Errors: InvalidArgument for a name that is taken
  ValueId add_weight(std::string name, Weight weight);
  ValueId add_input(std::string name, ElementType type, Shape shape);
  // Appends a node; makes its outputs (named; shapes by infer_shapes()).
  std::vector<ValueId> add_node(std::string op, std::string name, std::vector<ValueId> inputs,
                                std::vector<std::string> output_names,
                                std::map<std::string, Attribute> attributes, std::string block);

  const std::vector<Value>& values() const { return values_; }
  const std::vector<Node>& nodes() const { return nodes_; }
  Value& value(ValueId id) { return values_[id]; }
  const Value& value(ValueId id) const { return values_[id]; }
  Node& node(NodeId id) { return nodes_[id]; }
  const Node& node(NodeId id) const { return nodes_[id]; }
  std::optional<ValueId> find(std::string_view value_name) const;
  // `base`, or base_2, base_3, ... : a value name that is not taken.
  std::string free_name(const std::string& base) const;

  // Takes the place of all nodes (a pass builds the new list from nodes() and add_value()): sets
  // every producer again. Values that nothing makes or uses any more stay until remove_unused().
  void replace_nodes(std::vector<Node> nodes);
  // Drops nodes whose outputs nobody uses, then values that no node, graph input or graph output
  // names. Changes ids.
  void remove_unused();

 private:
  std::vector<Value> values_;
  std::vector<Node> nodes_;
  std::unordered_map<std::string, ValueId> by_name_;
};

// Every rule of a well-formed graph: names unique, inputs made before use, outputs exist, weights
// agree with their shapes, known operators have the right number of inputs. Errors: Corrupt naming
// node, value and rule.
void verify(const Graph& graph);

// Fills types and shapes of every value that its operator's rule can tell; symbols are carried
// through. Errors: Corrupt where shapes contradict (node, both shapes); Unsupported for an operator
// without a rule.
void infer_shapes(Graph& graph);

// infer_shapes(), and what it learned on the way: the integer values of rank 0 or 1 (made by nodes)
// of which every element is known whatever the inputs, as the parts of a shape often are.
std::unordered_map<ValueId, std::vector<int64_t>> known_integers(Graph& graph);

// The text form of `inspect --graph`: one line a node, weights with dtype and shape.
std::string to_text(const Graph& graph);

// The weight that a linear node (MatMul or Gemm) multiplies by, seen through a Transpose of it.
struct LinearWeight {
  ValueId value = kNone;
  bool transposed = false;  // true: the weight is stored [out_features, in_features]
};
// Nothing when the node is not linear or its second factor is no weight.
std::optional<LinearWeight> linear_weight(const Graph& graph, const Node& node);

// Consecutive nodes of one block.
struct BlockRange {
  std::string name;
  NodeId begin, end;
};
std::vector<BlockRange> blocks(const Graph& graph);

}  // namespace packlight::graph
