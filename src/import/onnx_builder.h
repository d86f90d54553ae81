#pragma once

#include <onnx/onnx_pb.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/fail.h"
#include "graph/graph.h"
#include "graph/operator_rules.h"
#include "onnx_file/model.h"

namespace packlight::import {

// What every graph of a file shares.
struct OnnxContext {
  const onnx_file::Model& model;
  std::vector<std::string>& notices;
  std::map<std::string, int64_t> opsets;  // by domain; "" is ai.onnx
  std::map<std::pair<std::string, std::string>, const onnx::FunctionProto*>
      functions;              // (domain, name)
  int64_t inlined_nodes = 0;  // that functions stood for so far
  std::string origin() const { return model.path().string(); }
};

// Errors: Unsupported naming `who` where its opset of ai.onnx is absent or none that is read.
void check_opset(const OnnxContext& context, const std::string& who);

// A node of the file, its attributes read, on the way into the graph.
struct OnnxNode {
  std::string name, op, domain;
  std::vector<std::string> inputs, outputs;  // names in the file; empty where absent
  std::map<std::string, graph::Attribute> attributes;
  int captures = 0;
};

// One graph, or subgraph, as it is built.
class OnnxBuilder {
 public:
  OnnxBuilder(OnnxContext& context, OnnxBuilder* outer) : context_(context), outer_(outer) {}

  // A whole GraphProto. Weights and inputs first, then nodes in an order that works.
  void build(const onnx::GraphProto& proto);
  // Declares the captured values as the last graph inputs, in this order.
  void add_captures(const std::vector<std::string>& names);
  graph::Graph finish();

  // The outer values this graph uses that are no weights, in the order of their first use.
  const std::vector<std::string>& captured() const { return captured_; }

  // For upgrade_node(): adds a node of opset 23 as it is, a constant, names of helper values.
  void emit(OnnxNode node);
  std::string add_integers(const std::string& base, const std::vector<int64_t>& values);
  std::string add_number(const std::string& base, double value);
  // A Constant node as a weight; false for a kind that is not supported.
  bool add_constant(const OnnxNode& node);
  std::string fresh(const std::string& base) { return graph_.free_name(base); }
  // The value a name stands for here. Errors: Corrupt when nothing of that name is known.
  graph::ValueId resolve(const std::string& name, const std::string& node);
  const graph::Graph& graph() const { return graph_; }
  int64_t opset() const { return context_.opsets.at(""); }
  void notice(std::string text) { context_.notices.push_back(std::move(text)); }

  template <class... Args>
  [[noreturn]] void refuse(ErrorCode code, const OnnxNode& node, fmt::format_string<Args...> text,
                           Args&&... args) const {
    fail(code, "[onnx] '{}': node '{}' ({}{}{}): {}", context_.origin(), node.name, node.domain,
         node.domain.empty() ? "" : ".", node.op, fmt::format(text, std::forward<Args>(args)...));
  }

 private:
  using Nodes = google::protobuf::RepeatedPtrField<onnx::NodeProto>;
  using Scope = std::unordered_map<std::string, graph::ValueId>;
  using Subgraphs = std::map<std::string, std::unique_ptr<OnnxBuilder>>;

  void add_initializers(const onnx::GraphProto& proto);
  void add_inputs(const onnx::GraphProto& proto);
  void add_nodes(const Nodes& nodes);
  void add_outputs(const onnx::GraphProto& proto);
  void add_node(const onnx::NodeProto& proto);
  OnnxNode read_node(const onnx::NodeProto& proto);
  void inline_function(const OnnxNode& call, const onnx::NodeProto& proto,
                       const onnx::FunctionProto& function);
  void read_attribute(const onnx::AttributeProto& attribute, OnnxNode& node, Subgraphs& subgraphs);
  // What the caller of the innermost function around gives; null when it does not give it.
  const onnx::AttributeProto* callers_attribute(const std::string& name) const;
  void connect_subgraphs(OnnxNode& node, Subgraphs subgraphs);
  std::optional<graph::ValueId> find(const std::string& name);
  // The float type other than F32 that a graph's output is declared to have.
  std::optional<graph::ElementType> declared_float(const onnx::ValueInfoProto& value) const;
  std::string value_name(const std::string& name) const;
  // Types and shapes of the node added last: how an older operator is rewritten may depend on them.
  void infer_last_node();
  std::string node_name(const std::string& wanted, const std::string& op);

  // The function whose body is being added, if any.
  struct Inlining {
    std::string prefix;  // of its nodes' and values' names
    std::unordered_map<std::string, std::string>
        output_names;  // formal -> what the caller calls it
    std::unordered_map<std::string, const onnx::AttributeProto*> attributes;  // given by the caller
    int depth = 0;
  };

  OnnxContext& context_;
  OnnxBuilder* outer_;
  graph::Graph graph_;
  std::unordered_set<graph::ValueId> four_bit_;  // initializers of 4-bit elements
  Scope scope_;  // the file's names; values of the graph may be called otherwise
  std::unordered_set<std::string> node_names_;
  std::unordered_map<std::string, int> node_name_counts_;
  std::vector<std::string> captured_;
  Inlining inlining_;
  graph::InferContext::Contents contents_;
};

// Adds a node of the file's opset as what it is at opset 23. Errors: Unsupported for a form that
// opset 23 has not.
void upgrade_node(OnnxBuilder& builder, OnnxNode node);

}  // namespace packlight::import
