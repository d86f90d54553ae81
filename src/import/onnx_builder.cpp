#include "import/onnx_builder.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "graph/operator_rules.h"
#include "graph/weight.h"
#include "import/onnx_order.h"
#include "import/sources.h"

namespace packlight::import {
namespace {

constexpr int kMaxFunctionDepth = 32;
constexpr int kMaxSubgraphDepth = 32;
// Two calls in each of 32 functions that call each other would be 2^32 nodes.
constexpr int64_t kMaxInlinedNodes = 1 << 16;
constexpr int64_t kFloat = onnx::TensorProto::FLOAT;

bool is_wide_or_narrow_float(graph::ElementType type) {
  return graph::is_float(type) && type != graph::ElementType::kF32;
}

// A dimension as the file declares it. "?" is what some exporters write for "unknown", several
// times in one shape, so it names nothing.
graph::Dim dim_of(const onnx::TensorShapeProto::Dimension& dim) {
  if (dim.has_dim_value()) return dim.dim_value() >= 0 ? graph::Dim(dim.dim_value()) : graph::Dim();
  if (dim.has_dim_param() && dim.dim_param() != "?") return graph::Dim(dim.dim_param());
  return {};
}

std::optional<graph::Shape> shape_of(const onnx::TypeProto::Tensor& type) {
  if (!type.has_shape()) return std::nullopt;
  graph::Shape shape;
  for (const auto& dim : type.shape().dim()) shape.push_back(dim_of(dim));
  return shape;
}

}  // namespace

void check_opset(const OnnxContext& context, const std::string& who) {
  constexpr int64_t kOldest = 7, kNewest = 23;
  const auto main = context.opsets.find("");
  if (main == context.opsets.end())
    fail(ErrorCode::kUnsupported, "[onnx] {} imports no opset of ai.onnx", who);
  if (main->second < kOldest || main->second > kNewest) {
    fail(ErrorCode::kUnsupported, "[onnx] {} is of opset {}; {} to {} are supported", who,
         main->second, kOldest, kNewest);
  }
}

void OnnxBuilder::build(const onnx::GraphProto& proto) {
  graph_.name = proto.name().empty() ? "graph" : proto.name();
  graph_.origin = context_.origin();
  int depth = 0;
  for (const OnnxBuilder* builder = outer_; builder != nullptr; builder = builder->outer_) ++depth;
  if (depth > kMaxSubgraphDepth) {
    fail(ErrorCode::kUnsupported, "[onnx] '{}': subgraphs are nested more than {} deep",
         context_.origin(), kMaxSubgraphDepth);
  }
  if (proto.sparse_initializer_size() > 0) {
    fail(ErrorCode::kUnsupported,
         "[onnx] '{}': tensor '{}' is sparse; sparse initializers are not supported",
         context_.origin(), proto.sparse_initializer(0).values().name());
  }
  for (const onnx::ValueInfoProto& output : proto.output()) {
    if (declared_float(output)) inlining_.output_names[output.name()] = output.name() + ".f32";
  }
  add_initializers(proto);
  add_inputs(proto);
  add_nodes(proto.node());
  add_outputs(proto);
}

void OnnxBuilder::add_initializers(const onnx::GraphProto& proto) {
  for (const onnx::TensorProto& tensor : proto.initializer()) {
    if (tensor.name().empty()) {
      fail(ErrorCode::kCorrupt, "[onnx] '{}': an initializer of graph '{}' has no name",
           context_.origin(), graph_.name);
    }
    if (scope_.count(tensor.name()) != 0) {
      fail(ErrorCode::kCorrupt, "[onnx] '{}': two initializers are named '{}'", context_.origin(),
           tensor.name());
    }
    scope_[tensor.name()] =
        graph_.add_weight(tensor.name(), tensor_view(context_.model.tensor(tensor)));
    const std::string type = onnx_file::data_type_name(tensor.data_type());
    if (type == "INT4" || type == "UINT4") four_bit_.insert(scope_[tensor.name()]);
  }
}

void OnnxBuilder::add_inputs(const onnx::GraphProto& proto) {
  for (const onnx::ValueInfoProto& input : proto.input()) {
    const std::string& name = input.name();
    if (const auto known = scope_.find(name); known != scope_.end()) {
      // Old files list initializers among the inputs, too: such a default is what counts here.
      if (graph_.value(known->second).weight) continue;
      fail(ErrorCode::kCorrupt, "[onnx] '{}': two graph inputs are named '{}'", context_.origin(),
           name);
    }
    if (name.empty())
      fail(ErrorCode::kCorrupt, "[onnx] '{}': a graph input has no name", context_.origin());
    if (input.has_type() && !input.type().has_tensor_type()) {
      fail(ErrorCode::kUnsupported,
           "[onnx] '{}': input '{}' is no tensor (sequences, maps and optional values are not "
           "supported)",
           context_.origin(), name);
    }
    graph::Value value;
    value.name = name;
    const auto& type = input.type().tensor_type();
    if (type.elem_type() != onnx::TensorProto::UNDEFINED) {
      if (type.elem_type() == onnx::TensorProto::STRING) {
        fail(ErrorCode::kUnsupported,
             "[onnx] '{}': input '{}' holds strings, which are not supported", context_.origin(),
             name);
      }
      try {
        value.type = graph::from_onnx_type(type.elem_type());
      } catch (const Error&) {
        fail(ErrorCode::kUnsupported,
             "[onnx] '{}': input '{}' has elements of type {}, which are not supported",
             context_.origin(), name, onnx_file::data_type_name(type.elem_type()));
      }
    }
    value.shape = shape_of(type);
    const bool cast = is_wide_or_narrow_float(value.type);
    if (cast && outer_ != nullptr)
      value.type = graph::ElementType::kF32;  // the outer values are F32 already
    const graph::ElementType declared = value.type;
    const graph::ValueId id = graph_.add_value(std::move(value));
    graph_.inputs.push_back(id);
    scope_[name] = id;
    if (!cast || outer_ != nullptr) continue;
    context_.notices.push_back(fmt::format("input '{}' is {}; arithmetic is done in F32", name,
                                           graph::element_type_name(declared)));
    scope_[name] = graph_.add_node("Cast", node_name(name + ".to_f32", "Cast"), {id},
                                   {graph_.free_name(name + ".f32")}, {{"to", kFloat}}, "")[0];
    infer_last_node();
  }
}

void OnnxBuilder::add_nodes(const Nodes& nodes) {
  std::vector<const onnx::NodeProto*> list;
  for (const onnx::NodeProto& node : nodes) list.push_back(&node);
  for (const onnx::NodeProto* node : in_order(list, context_.origin())) add_node(*node);
}

std::string OnnxBuilder::node_name(const std::string& wanted, const std::string& op) {
  const std::string base = inlining_.prefix + (wanted.empty() ? op : wanted);
  int& count = node_name_counts_[base];
  std::string name;
  do {
    name = count == 0 ? base : base + "_" + std::to_string(count + 1);
    ++count;
  } while (!node_names_.insert(name).second);
  return name;
}

std::string OnnxBuilder::value_name(const std::string& name) const {
  const auto caller = inlining_.output_names.find(name);
  return graph_.free_name(caller != inlining_.output_names.end() ? caller->second
                                                                 : inlining_.prefix + name);
}

OnnxNode OnnxBuilder::read_node(const onnx::NodeProto& proto) {
  OnnxNode node;
  node.op = proto.op_type();
  node.domain = proto.domain() == "ai.onnx" ? "" : proto.domain();
  node.name = node_name(proto.name(), node.op);
  node.inputs.assign(proto.input().begin(), proto.input().end());
  node.outputs.assign(proto.output().begin(), proto.output().end());
  // Optional inputs and outputs at the end may be there with empty names.
  while (!node.inputs.empty() && node.inputs.back().empty()) node.inputs.pop_back();
  while (!node.outputs.empty() && node.outputs.back().empty()) node.outputs.pop_back();
  return node;
}

void OnnxBuilder::add_node(const onnx::NodeProto& proto) {
  OnnxNode node = read_node(proto);
  const auto function = context_.functions.find({node.domain, node.op});
  if (function != context_.functions.end()) return inline_function(node, proto, *function->second);
  if (context_.opsets.count(node.domain) == 0) {
    refuse(ErrorCode::kCorrupt, node, "the file imports no opset of domain '{}'", node.domain);
  }
  Subgraphs subgraphs;
  for (const onnx::AttributeProto& attribute : proto.attribute())
    read_attribute(attribute, node, subgraphs);
  if (!subgraphs.empty()) connect_subgraphs(node, std::move(subgraphs));
  if (node.op == "DequantizeLinear" && node.domain.empty() && !node.inputs.empty() &&
      four_bit_.count(resolve(node.inputs[0], node.name)) != 0)
    node.attributes["bits"] = int64_t{4};  // the weight itself is I8 or U8 here
  for (const std::string& output : node.outputs) {
    if (!output.empty() && scope_.count(output) != 0)
      refuse(ErrorCode::kCorrupt, node, "output '{}' is made twice", output);
  }
  if (node.domain.empty() && node.op == "Constant") {
    if (!add_constant(node))
      refuse(ErrorCode::kUnsupported, node,
             "a constant of this kind (sparse, or strings) is not supported");
    return;
  }
  upgrade_node(*this, std::move(node));
}

const onnx::AttributeProto* OnnxBuilder::callers_attribute(const std::string& name) const {
  const OnnxBuilder* builder = this;
  while (builder->inlining_.depth == 0 && builder->outer_ != nullptr) builder = builder->outer_;
  const auto it = builder->inlining_.attributes.find(name);
  return it == builder->inlining_.attributes.end() ? nullptr : it->second;
}

void OnnxBuilder::read_attribute(const onnx::AttributeProto& given, OnnxNode& node,
                                 Subgraphs& subgraphs) {
  const onnx::AttributeProto* source = &given;
  if (!given.ref_attr_name().empty()) {  // stands for an attribute of the function's caller
    source = callers_attribute(given.ref_attr_name());
    if (source == nullptr) return;  // not given: absent here, too
  }
  const onnx::AttributeProto& a = *source;
  const std::string& name = given.name();
  switch (a.type()) {
    case onnx::AttributeProto::INT:
      node.attributes[name] = a.i();
      return;
    case onnx::AttributeProto::FLOAT:
      node.attributes[name] = static_cast<double>(a.f());
      return;
    case onnx::AttributeProto::STRING:
      node.attributes[name] = a.s();
      return;
    case onnx::AttributeProto::INTS:
      node.attributes[name] = std::vector<int64_t>(a.ints().begin(), a.ints().end());
      return;
    case onnx::AttributeProto::FLOATS:
      node.attributes[name] = std::vector<double>(a.floats().begin(), a.floats().end());
      return;
    case onnx::AttributeProto::STRINGS:
      node.attributes[name] = std::vector<std::string>(a.strings().begin(), a.strings().end());
      return;
    case onnx::AttributeProto::TENSOR:
      node.attributes[name] = tensor_view(context_.model.tensor(a.t()));
      return;
    case onnx::AttributeProto::GRAPH: {
      auto builder = std::make_unique<OnnxBuilder>(context_, this);
      builder->build(a.g());
      subgraphs[name] = std::move(builder);
      return;
    }
    case onnx::AttributeProto::SPARSE_TENSOR:
      refuse(ErrorCode::kUnsupported, node,
             "attribute '{}' is a sparse tensor, which is not supported", name);
    default:
      refuse(ErrorCode::kUnsupported, node, "attribute '{}' has type {}, which is not supported",
             name, static_cast<int>(a.type()));
  }
}

void OnnxBuilder::connect_subgraphs(OnnxNode& node, Subgraphs subgraphs) {
  if (node.op != "If" && node.op != "Loop")
    refuse(ErrorCode::kUnsupported, node,
           "operators with subgraphs other than If and Loop are not supported");
  if (node.op == "Loop") node.inputs.resize(std::max<size_t>(2, node.inputs.size()));
  std::vector<std::string> all;
  for (const auto& [name, builder] : subgraphs) {
    for (const std::string& captured : builder->captured()) {
      if (std::find(all.begin(), all.end(), captured) == all.end()) all.push_back(captured);
    }
  }
  for (auto& [name, builder] : subgraphs) {
    builder->add_captures(all);
    node.attributes[name] = std::make_shared<graph::Graph>(builder->finish());
  }
  node.inputs.insert(node.inputs.end(), all.begin(), all.end());
  node.captures = static_cast<int>(all.size());
}

void OnnxBuilder::add_captures(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const auto it = std::find(captured_.begin(), captured_.end(), name);
    if (it != captured_.end()) {
      graph_.inputs.push_back(scope_.at(name));
      continue;
    }
    graph::Value unused;
    unused.name = graph_.free_name(name);
    graph_.inputs.push_back(graph_.add_value(std::move(unused)));
  }
}

std::optional<graph::ValueId> OnnxBuilder::find(const std::string& name) {
  if (const auto it = scope_.find(name); it != scope_.end()) return it->second;
  if (outer_ == nullptr) return std::nullopt;
  const auto outside = outer_->find(name);
  if (!outside) return std::nullopt;
  // A constant is copied (the bytes are shared), so that what it decides is known inside as well.
  const graph::Value& value = outer_->graph_.value(*outside);
  if (value.weight) return scope_[name] = graph_.add_weight(graph_.free_name(name), *value.weight);
  graph::Value inner;
  inner.name = graph_.free_name(name);
  inner.type = value.type;
  inner.shape = value.shape;
  captured_.push_back(name);
  return scope_[name] = graph_.add_value(std::move(inner));
}

graph::ValueId OnnxBuilder::resolve(const std::string& name, const std::string& node) {
  if (name.empty()) return graph::kNone;
  const auto id = find(name);
  if (!id)
    fail(ErrorCode::kCorrupt, "[onnx] '{}': node '{}': nothing makes its input '{}'",
         context_.origin(), node, name);
  return *id;
}

void OnnxBuilder::infer_last_node() {
  try {
    graph::infer_node(graph_, static_cast<graph::NodeId>(graph_.nodes().size()) - 1, contents_);
  } catch (const Error& error) {  // a rule of graph/ knows no file
    constexpr std::string_view kRoom = "[graph] ";
    std::string_view text = error.what();
    if (text.substr(0, kRoom.size()) == kRoom) text.remove_prefix(kRoom.size());
    fail(error.code(), "[onnx] '{}': {}", context_.origin(), text);
  }
}

void OnnxBuilder::emit(OnnxNode node) {
  if (graph::find_rule(node.op, node.domain) == nullptr)
    refuse(ErrorCode::kUnsupported, node, "the operator is not supported");
  std::vector<graph::ValueId> inputs;
  for (const std::string& input : node.inputs) inputs.push_back(resolve(input, node.name));
  std::vector<std::string> names;
  for (const std::string& output : node.outputs)
    names.push_back(output.empty() ? "" : value_name(output));
  const auto made = graph_.add_node(node.op, node.name, std::move(inputs), std::move(names),
                                    std::move(node.attributes), "");
  graph::Node& added = graph_.node(static_cast<graph::NodeId>(graph_.nodes().size()) - 1);
  added.domain = node.domain;
  added.captures = node.captures;
  for (size_t i = 0; i < made.size(); ++i) {
    if (made[i] != graph::kNone) scope_[node.outputs[i]] = made[i];
  }
  infer_last_node();
}

bool OnnxBuilder::add_constant(const OnnxNode& node) {
  if (node.attributes.size() != 1 || node.outputs.size() != 1) return false;
  const auto& [name, attribute] = *node.attributes.begin();
  at::Tensor tensor;
  if (const auto* value = std::get_if<at::Tensor>(&attribute)) tensor = *value;
  if (const auto* value = std::get_if<double>(&attribute))
    tensor = at::scalar_tensor(*value, at::kFloat);
  if (const auto* value = std::get_if<int64_t>(&attribute))
    tensor = at::scalar_tensor(*value, at::kLong);
  if (const auto* value = std::get_if<std::vector<double>>(&attribute))
    tensor = at::tensor(*value).to(at::kFloat);
  if (const auto* value = std::get_if<std::vector<int64_t>>(&attribute))
    tensor = at::tensor(*value);
  if (!tensor.defined()) return false;
  scope_[node.outputs[0]] = graph_.add_weight(value_name(node.outputs[0]), tensor);
  return true;
}

void OnnxBuilder::inline_function(const OnnxNode& call, const onnx::NodeProto& proto,
                                  const onnx::FunctionProto& function) {
  if (inlining_.depth >= kMaxFunctionDepth) {
    refuse(ErrorCode::kUnsupported, call, "functions call each other more than {} deep",
           kMaxFunctionDepth);
  }
  if (call.inputs.size() > static_cast<size_t>(function.input_size()) ||
      call.outputs.size() > static_cast<size_t>(function.output_size())) {
    refuse(ErrorCode::kCorrupt, call, "{} inputs and {} outputs, the function has {} and {}",
           call.inputs.size(), call.outputs.size(), function.input_size(), function.output_size());
  }
  context_.inlined_nodes += function.node_size();
  if (context_.inlined_nodes > kMaxInlinedNodes) {
    refuse(ErrorCode::kUnsupported, call, "the file's functions stand for more than {} nodes",
           kMaxInlinedNodes);
  }
  // Default attribute values and overloads came after the message definition at hand.
  if (!function.unknown_fields().empty())
    refuse(ErrorCode::kUnsupported, call,
           "the function has default attributes or overloads, which are not supported");
  Scope scope;
  for (size_t i = 0; i < call.inputs.size(); ++i) {
    if (!call.inputs[i].empty())
      scope[function.input(static_cast<int>(i))] = resolve(call.inputs[i], call.name);
  }
  Inlining inlining;
  inlining.prefix = call.name + "/";
  inlining.depth = inlining_.depth + 1;
  for (size_t i = 0; i < call.outputs.size(); ++i) {
    if (!call.outputs[i].empty())
      inlining.output_names[function.output(static_cast<int>(i))] = value_name(call.outputs[i]);
  }
  for (const onnx::AttributeProto& attribute : proto.attribute()) {
    const onnx::AttributeProto* given = &attribute;
    if (!attribute.ref_attr_name().empty()) {
      given = callers_attribute(attribute.ref_attr_name());
      if (given == nullptr) continue;
    }
    inlining.attributes[attribute.name()] = given;
  }
  std::map<std::string, int64_t> opsets = context_.opsets;
  for (const auto& opset : function.opset_import())
    opsets[opset.domain() == "ai.onnx" ? "" : opset.domain()] = opset.version();
  std::swap(scope, scope_);
  std::swap(inlining, inlining_);
  std::swap(opsets, context_.opsets);
  check_opset(context_, fmt::format("'{}': function '{}'", context_.origin(), function.name()));
  add_nodes(function.node());
  std::swap(scope, scope_);
  std::swap(inlining, inlining_);
  std::swap(opsets, context_.opsets);
  for (size_t i = 0; i < call.outputs.size(); ++i) {
    if (call.outputs[i].empty()) continue;
    const auto made = scope.find(function.output(static_cast<int>(i)));
    if (made == scope.end())
      refuse(ErrorCode::kCorrupt, call, "the function makes no '{}'",
             function.output(static_cast<int>(i)));
    scope_[call.outputs[i]] = made->second;
  }
}

void OnnxBuilder::add_outputs(const onnx::GraphProto& proto) {
  for (const onnx::ValueInfoProto& output : proto.output()) {
    const auto id = find(output.name());
    if (!id)
      fail(ErrorCode::kCorrupt, "[onnx] '{}': nothing makes the output '{}'", context_.origin(),
           output.name());
    graph::ValueId made = *id;
    if (const auto declared =
            declared_float(output)) {  // the name of what is made in F32 was changed by build()
      made = graph_.add_node("Cast", node_name(output.name() + ".from_f32", "Cast"), {made},
                             {graph_.free_name(output.name())},
                             {{"to", graph::to_onnx_type(*declared)}}, "")[0];
      infer_last_node();
    }
    graph_.outputs.push_back(made);
  }
  if (graph_.outputs.empty())
    fail(ErrorCode::kCorrupt, "[onnx] '{}': graph '{}' has no outputs", context_.origin(),
         graph_.name);
}

std::optional<graph::ElementType> OnnxBuilder::declared_float(
    const onnx::ValueInfoProto& value) const {
  const int type = value.type().tensor_type().elem_type();
  const bool is_other_float = type == onnx::TensorProto::FLOAT16 ||
                              type == onnx::TensorProto::BFLOAT16 ||
                              type == onnx::TensorProto::DOUBLE;
  if (!is_other_float || outer_ != nullptr) return std::nullopt;
  return graph::from_onnx_type(type);
}

std::string OnnxBuilder::add_integers(const std::string& base, const std::vector<int64_t>& values) {
  const std::string name = graph_.free_name(inlining_.prefix + base);
  scope_[name] = graph_.add_weight(name, at::tensor(values, at::kLong));
  return name;
}

std::string OnnxBuilder::add_number(const std::string& base, double value) {
  const std::string name = graph_.free_name(inlining_.prefix + base);
  scope_[name] = graph_.add_weight(name, at::scalar_tensor(value, at::kFloat));
  return name;
}

graph::Graph OnnxBuilder::finish() { return std::move(graph_); }

}  // namespace packlight::import
