#pragma once

#include <onnx/onnx_pb.h>

#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/fail.h"
#include "deploy/onnx_tensor_store.h"
#include "deploy/onnx_writer.h"
#include "graph/graph.h"

namespace packlight::deploy {

// What all graphs of a file share.
struct OnnxModel {
  const OnnxOptions& options;
  OnnxTensorStore& store;
  OnnxReport& report;                            // report.opset is the one to write
  std::unordered_set<std::string> names;         // of values, in any graph
  std::unordered_map<std::string, int> next;     // by base: where fresh() goes on
  std::map<std::string, int64_t> other_domains;  // that nodes used -> version
};

// A node on its way into the file, at opset 23 until made older.
struct OnnxNode {
  std::string name, op, domain;
  std::vector<std::string> inputs, outputs;  // empty where absent
  std::map<std::string, graph::Attribute> attributes;
  std::vector<std::string> captured;  // what the last inputs of its subgraphs are called out here
  bool has(size_t input) const { return input < inputs.size() && !inputs[input].empty(); }
  bool makes(size_t output) const { return output < outputs.size() && !outputs[output].empty(); }
  int64_t integer(const std::string& attribute, int64_t fallback) const;
  double number(const std::string& attribute, double fallback) const;
  std::string text(const std::string& attribute, const std::string& fallback) const;
};

// A DequantizeLinear that says by `bits` that its codes have fewer than their type.
inline bool is_narrow(const graph::Node& node) {
  return node.op == "DequantizeLinear" && node.domain.empty() && node.integer("bits", 0) != 0;
}

// One graph, or subgraph, on its way into the file.
class OnnxScope {
 public:
  OnnxScope(OnnxModel& model, OnnxScope* outer, const graph::Graph& graph, onnx::GraphProto& proto)
      : model_(model), outer_(outer), graph_(graph), proto_(proto) {}

  // The whole graph. `captured`: what its last inputs are called outside.
  void write(const std::vector<std::string>& captured);

  // For making operators older: adds a node of opset 23 in the form that the file's opset has; as
  // it is; constants (the same one twice is written once); a name that nothing in the file has.
  void emit(OnnxNode node);
  void emit_as_is(OnnxNode node);
  std::string integers(const std::vector<int64_t>& values);
  std::string integer(int64_t value);  // of rank 0
  std::string number(double value);    // F32, of rank 0
  std::string constant(const std::string& base, const at::Tensor& tensor);
  std::string fresh(const std::string& base);
  int64_t opset() const { return model_.report.opset; }

  struct Facts {
    graph::ElementType type = graph::ElementType::kUndefined;
    std::optional<graph::Shape> shape;
    std::optional<std::vector<int64_t>> integers;  // of an integer constant
  };
  // What is known of a value by its name here; nothing of helper values.
  Facts facts(const std::string& name) const;

  template <class... Args>
  [[noreturn]] void refuse(const OnnxNode& node, fmt::format_string<Args...> text,
                           Args&&... args) const {
    fail(ErrorCode::kUnsupported, "[export.onnx] node '{}' ({}{}{}): {}", node.name, node.domain,
         node.domain.empty() ? "" : ".", node.op, fmt::format(text, std::forward<Args>(args)...));
  }
  // `what` is there from opset `since` on only.
  [[noreturn]] void needs(const OnnxNode& node, int64_t since, std::string_view what) const {
    refuse(node, "{} needs opset {} or newer, not {}", what, since, opset());
  }

 private:
  // A matrix's packed parts, for MatMulNBits.
  struct Packed {
    std::string codes, scales, zero_points;
    int bits = 4;
    int64_t block_size = 0;
  };

  void name_values(const std::vector<std::string>& captured);
  void plan_packed();
  void plan_4bit();
  void write_inputs(size_t captures);
  void write_outputs();
  void write_node(const graph::Node& node);
  void write_packed_linear(const graph::Node& node);
  bool packs(const graph::Node& node) const;
  // The value's name in the file; a weight is written at its first use.
  std::string use(graph::ValueId id);
  std::string write_weight(graph::ValueId id);
  std::string write_encoded(graph::ValueId id, const codec::EncodedTensor& tensor);
  std::string write_dequantized(const std::string& name, const codec::EncodedTensor& tensor);
  std::string write_dense(const std::string& name, const at::Tensor& tensor, bool as_f32);
  std::string cast_to_f32(const std::string& name);
  const Packed& write_packed(graph::ValueId id);
  bool is_boundary(graph::ValueId id) const;
  bool is_visible_outside(const std::string& name) const;
  std::optional<std::string> same_weight_outside(const graph::Weight& weight);
  void set_type(onnx::ValueInfoProto& info, const graph::Value& value) const;
  void set_attribute(onnx::NodeProto& proto, const std::string& name, const graph::Attribute& value,
                     const OnnxNode& node);

  OnnxModel& model_;
  OnnxScope* outer_;
  const graph::Graph& graph_;
  onnx::GraphProto& proto_;
  std::vector<std::string> names_;                           // by value
  std::unordered_map<std::string, graph::ValueId> by_name_;  // the other way round
  std::unordered_set<std::string> own_names_;
  std::unordered_map<graph::ValueId, std::string> written_;  // weights
  std::unordered_map<graph::ValueId, Packed> packed_;
  std::unordered_set<graph::ValueId> four_bit_;  // weights that go as INT4 or UINT4
  std::unordered_set<graph::NodeId> unneeded_;  // transposes of packed weights
  std::map<std::vector<int64_t>, std::string> integer_lists_;
  std::map<int64_t, std::string> integers_;
  std::map<double, std::string> numbers_;
  std::unordered_map<std::string, Facts> constants_;
  std::vector<onnx::NodeProto> first_, nodes_;  // first_: casts of weights and the like
  bool emit_first_ = false;
};

}  // namespace packlight::deploy
