#pragma once

#include <fmt/format.h>

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/fail.h"
#include "graph/graph.h"
#include "packlight/error.h"

namespace packlight::graph {

// What a shape rule sees of a node, and where it puts what it finds.
class InferContext {
 public:
  // The contents of small integer values as far as they are known, by value: what Shape makes and
  // Reshape reads.
  struct Element {  // a number, or the symbol of a dimension, or unknown
    std::optional<int64_t> number;
    std::string symbol;
    Dim dim() const { return number ? Dim(*number) : Dim(symbol); }
  };
  using Elements = std::vector<Element>;
  using Contents = std::unordered_map<ValueId, Elements>;

  InferContext(Graph& graph, NodeId node_id, Contents& contents)
      : graph_(graph), node_id_(node_id), contents_(contents) {}

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
  // The same, also when the elements come from shapes and only some are numbers. Nothing when the
  // length is unknown.
  std::optional<Elements> contents(size_t input) const;
  // The numbers of a constant float vector (scales).
  std::optional<std::vector<double>> numbers(size_t input) const;
  // Says what an integer output (rank 0 or 1) holds.
  void set_contents(size_t output, Elements elements);
  // An attribute's subgraph. Errors: Corrupt when it is absent.
  Graph& subgraph(std::string_view attribute) const;

  // Merges into what is already known of the output. Errors: Corrupt when the two contradict.
  void set(size_t output, ElementType type, std::optional<Shape> shape);

  // Throws Corrupt: "[graph] node 'x' (Op): <rule>".
  template <class... Args>
  [[noreturn]] void contradiction(fmt::format_string<Args...> text, Args&&... args) const {
    fail(ErrorCode::kCorrupt, "[graph] node '{}' ({}): {}", node().name, node().op,
         fmt::format(text, std::forward<Args>(args)...));
  }

  // What fn returns; what it finds wrong (InvalidArgument, from a room that knows no nodes) is a
  // contradiction.
  template <class Fn>
  auto checked(const Fn& fn) const {
    try {
      return fn();
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kInvalidArgument) throw;
      contradiction("{}", error.what());
    }
  }

 private:
  Graph& graph_;
  NodeId node_id_;
  Contents& contents_;
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
// Vectors up to this length have their contents followed; LibTorch's own bound for ranks, so that
// every shape is among them.
inline constexpr int64_t kMaxRank = 64;

// Every operator that has a rule, family by family.
std::vector<const OperatorRule*> all_rules();
// nullptr for an operator without a rule.
const OperatorRule* find_rule(std::string_view op, std::string_view domain);

// Fills types and shapes of one node's outputs (infer_shapes() is this for every node in order);
// `contents` carries what is known from one node to the next.
void infer_node(Graph& graph, NodeId id, InferContext::Contents& contents);

// infer_shapes(), and what it learned of the contents of integer values that nodes make.
InferContext::Contents infer_contents(Graph& graph);
// The elements, when each is a number.
std::optional<std::vector<int64_t>> all_numbers(const InferContext::Elements& elements);

// One table per family, in the file of that name.
std::span<const OperatorRule> activation_rules();
std::span<const OperatorRule> control_rules();
std::span<const OperatorRule> convolution_rules();
std::span<const OperatorRule> creation_rules();
std::span<const OperatorRule> elementwise_rules();
std::span<const OperatorRule> index_rules();
std::span<const OperatorRule> matrix_rules();
std::span<const OperatorRule> movement_rules();
std::span<const OperatorRule> normalization_rules();
std::span<const OperatorRule> pooling_rules();
std::span<const OperatorRule> quantized_rules();
std::span<const OperatorRule> recurrent_rules();
std::span<const OperatorRule> reduction_rules();
std::span<const OperatorRule> resampling_rules();
std::span<const OperatorRule> transformer_rules();

// Helpers that rules share.
// The dimension that a and b broadcast to (numpy rules); nothing when they contradict.
std::optional<Dim> broadcast(const Dim& a, const Dim& b);
std::optional<Shape> broadcast(const InferContext& context, const Shape& a, const Shape& b);
// Whether two dimensions can be the same number.
bool compatible(const Dim& a, const Dim& b);
// What is known when both describe the same dimension (call only when compatible).
Dim merged(const Dim& a, const Dim& b);
// A number, or the symbol that only ones are multiplied with, or unknown (also where it overflows).
Dim product(std::span<const Dim> dims);
// The element type that two inputs share. Errors: Corrupt when they differ.
ElementType same_type(const InferContext& context, size_t first, size_t second);
// Errors: Corrupt when the input is known to be neither I64 nor I32.
void require_integers(const InferContext& context, size_t input);
// The shape that an integer vector holds: unknown dimensions where only its length is known, and
// nothing where not even that is. Errors: Corrupt for a negative element, or for another rank.
std::optional<Shape> shape_in(const InferContext& context, size_t input);
// axis in [-rank, rank) -> [0, rank). Errors: Corrupt.
int64_t normalised_axis(const InferContext& context, int64_t axis, int64_t rank);

}  // namespace packlight::graph
