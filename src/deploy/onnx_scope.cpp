#include "deploy/onnx_scope.h"

#include <fmt/format.h>
#include <ATen/ATen.h>

#include <algorithm>

#include "deploy/onnx_downgrade.h"
#include "graph/weight.h"

namespace packlight::deploy {
namespace {

template <class T>
T attribute_or(const OnnxNode& node, const std::string& name, T fallback) {
  const auto it = node.attributes.find(name);
  if (it == node.attributes.end()) return fallback;
  const T* value = std::get_if<T>(&it->second);
  return value != nullptr ? *value : fallback;
}

std::span<const std::byte> bytes_of(const at::Tensor& contiguous) {
  return {static_cast<const std::byte*>(contiguous.data_ptr()), contiguous.nbytes()};
}

int data_type_of(const at::Tensor& tensor) {
  return static_cast<int>(graph::to_onnx_type(graph::from_scalar_type(tensor.scalar_type())));
}

}  // namespace

int64_t OnnxNode::integer(const std::string& attribute, int64_t fallback) const {
  return attribute_or(*this, attribute, fallback);
}
double OnnxNode::number(const std::string& attribute, double fallback) const {
  return attribute_or(*this, attribute, fallback);
}
std::string OnnxNode::text(const std::string& attribute, const std::string& fallback) const {
  return attribute_or(*this, attribute, fallback);
}

void OnnxScope::write(const std::vector<std::string>& captured) {
  proto_.set_name(graph_.name.empty() ? "graph" : graph_.name);
  name_values(captured);
  plan_packed();
  plan_4bit();
  write_inputs(captured.size());
  for (graph::NodeId id = 0; id < static_cast<graph::NodeId>(graph_.nodes().size()); ++id) {
    if (unneeded_.count(id) == 0) write_node(graph_.node(id));
  }
  write_outputs();
  for (auto* nodes : {&first_, &nodes_}) {
    for (onnx::NodeProto& node : *nodes) proto_.add_node()->Swap(&node);
  }
}

// A name inside a subgraph may not be one of the graphs around it.
void OnnxScope::name_values(const std::vector<std::string>& captured) {
  names_.resize(graph_.values().size());
  if (captured.size() > graph_.inputs.size()) {
    fail(ErrorCode::kCorrupt, "[export.onnx] subgraph '{}' has {} inputs, but captures {} values",
         graph_.name, graph_.inputs.size(), captured.size());
  }
  const size_t first_captured = graph_.inputs.size() - captured.size();
  for (size_t i = 0; i < captured.size(); ++i)
    names_[graph_.inputs[first_captured + i]] = captured[i];
  for (size_t id = 0; id < names_.size(); ++id) {
    if (!names_[id].empty()) continue;  // captured
    std::string name = graph_.value(static_cast<graph::ValueId>(id)).name;
    if (outer_ != nullptr && outer_->is_visible_outside(name)) name = fresh(name);
    names_[id] = name;
    own_names_.insert(name);
    model_.names.insert(name);
    by_name_[name] = static_cast<graph::ValueId>(id);
  }
}

bool OnnxScope::is_visible_outside(const std::string& name) const {
  return own_names_.count(name) != 0 || (outer_ != nullptr && outer_->is_visible_outside(name));
}

std::string OnnxScope::fresh(const std::string& base) {
  std::string name = base;
  int& next = model_.next[base];
  while (!model_.names.insert(name).second) name = base + "_" + std::to_string(2 + next++);
  own_names_.insert(name);
  return name;
}

void OnnxScope::write_inputs(size_t captures) {
  for (size_t i = 0; i + captures < graph_.inputs.size(); ++i) {
    const graph::Value& value = graph_.value(graph_.inputs[i]);
    onnx::ValueInfoProto& info = *proto_.add_input();
    info.set_name(names_[graph_.inputs[i]]);
    set_type(info, value);
    if (value.weight) use(graph_.inputs[i]);  // a default
  }
}

// An output has to be made by the graph itself, and once.
void OnnxScope::write_outputs() {
  std::unordered_set<std::string> made;
  for (const graph::ValueId id : graph_.outputs) {
    const graph::Value& value = graph_.value(id);
    std::string name = value.weight ? use(id) : names_[id];
    const bool from_outside = outer_ != nullptr && (value.weight || by_name_.count(name) == 0);
    if (from_outside || !made.insert(name).second) {
      OnnxNode copy;
      copy.op = "Identity";
      copy.inputs = {name};
      name = fresh(value.name);
      copy.name = name + "/Identity";
      copy.outputs = {name};
      emit_as_is(std::move(copy));
    }
    onnx::ValueInfoProto& info = *proto_.add_output();
    info.set_name(name);
    set_type(info, value);
  }
}

void OnnxScope::set_type(onnx::ValueInfoProto& info, const graph::Value& value) const {
  const bool as_f32 = value.weight && graph::is_float(value.type);
  const graph::ElementType type = as_f32 ? graph::ElementType::kF32 : value.type;
  if (type == graph::ElementType::kUndefined) {
    if (outer_ != nullptr) return;  // the node around it says
    fail(ErrorCode::kUnsupported,
         "[export.onnx] graph '{}': the element type of '{}' is not known (infer_shapes() first)",
         graph_.name, value.name);
  }
  auto& tensor = *info.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(static_cast<int>(graph::to_onnx_type(type)));
  if (!value.shape) return;
  auto& shape = *tensor.mutable_shape();
  for (const graph::Dim& dim : *value.shape) {
    auto& out = *shape.add_dim();
    if (dim.known()) out.set_dim_value(dim.value);
    if (!dim.known() && !dim.symbol.empty()) out.set_dim_param(dim.symbol);
  }
}

void OnnxScope::write_node(const graph::Node& node) {
  if (packs(node)) return write_packed_linear(node);
  OnnxNode out;
  out.name = node.name;
  out.op = node.op;
  out.domain = node.domain;
  if (node.input_quant != graph::ActivationQuant::kNone) {
    refuse(out,
           "its activations are quantized to INT8 by token and 32 columns, which ONNX has no "
           "operator for (quantize weights only)");
  }
  if (node.captures > static_cast<int>(node.inputs.size()))
    refuse(out, "captures {} of {} inputs", node.captures, node.inputs.size());
  const size_t inputs = node.inputs.size() - node.captures;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    const std::string name = node.inputs[i] == graph::kNone ? "" : use(node.inputs[i]);
    (i < inputs ? out.inputs : out.captured).push_back(name);
  }
  for (const graph::ValueId id : node.outputs)
    out.outputs.push_back(id == graph::kNone ? "" : names_[id]);
  out.attributes = node.attributes;
  if (is_narrow(node)) out.attributes.erase("bits");
  emit(std::move(out));
}

void OnnxScope::emit(OnnxNode node) { downgrade_node(*this, std::move(node)); }

void OnnxScope::emit_as_is(OnnxNode node) {
  onnx::NodeProto proto;
  proto.set_name(node.name);
  proto.set_op_type(node.op);
  if (!node.domain.empty()) {
    proto.set_domain(node.domain);
    model_.other_domains.emplace(node.domain, 1);
  }
  const size_t least = node.op == "Loop" ? 2 : 0;  // its first two may be absent, but not left out
  while (node.inputs.size() > least && node.inputs.back().empty()) node.inputs.pop_back();
  for (const std::string& input : node.inputs) proto.add_input(input);
  for (const std::string& output : node.outputs) proto.add_output(output);
  for (const auto& [name, value] : node.attributes) set_attribute(proto, name, value, node);
  (emit_first_ ? first_ : nodes_).push_back(std::move(proto));
}

void OnnxScope::set_attribute(onnx::NodeProto& proto, const std::string& name,
                              const graph::Attribute& value, const OnnxNode& node) {
  onnx::AttributeProto& out = *proto.add_attribute();
  out.set_name(name);
  if (const auto* integer = std::get_if<int64_t>(&value)) {
    out.set_type(onnx::AttributeProto::INT);
    out.set_i(*integer);
  } else if (const auto* number = std::get_if<double>(&value)) {
    out.set_type(onnx::AttributeProto::FLOAT);
    out.set_f(static_cast<float>(*number));
  } else if (const auto* text = std::get_if<std::string>(&value)) {
    out.set_type(onnx::AttributeProto::STRING);
    out.set_s(*text);
  } else if (const auto* integers = std::get_if<std::vector<int64_t>>(&value)) {
    out.set_type(onnx::AttributeProto::INTS);
    for (const int64_t v : *integers) out.add_ints(v);
  } else if (const auto* numbers = std::get_if<std::vector<double>>(&value)) {
    out.set_type(onnx::AttributeProto::FLOATS);
    for (const double v : *numbers) out.add_floats(static_cast<float>(v));
  } else if (const auto* texts = std::get_if<std::vector<std::string>>(&value)) {
    out.set_type(onnx::AttributeProto::STRINGS);
    for (const std::string& v : *texts) out.add_strings(v);
  } else if (const auto* tensor = std::get_if<at::Tensor>(&value)) {
    const at::Tensor dense = tensor->contiguous();
    out.set_type(onnx::AttributeProto::TENSOR);
    out.mutable_t()->set_data_type(data_type_of(dense));
    for (const int64_t dim : dense.sizes()) out.mutable_t()->add_dims(dim);
    out.mutable_t()->set_raw_data(dense.data_ptr(), dense.nbytes());
  } else if (const auto& body = std::get<std::shared_ptr<graph::Graph>>(value); body != nullptr) {
    out.set_type(onnx::AttributeProto::GRAPH);
    OnnxScope(model_, this, *body, *out.mutable_g()).write(node.captured);
  } else {
    refuse(node, "attribute '{}' holds no subgraph", name);
  }
}

OnnxScope::Facts OnnxScope::facts(const std::string& name) const {
  if (const auto it = constants_.find(name); it != constants_.end()) return it->second;
  const auto it = by_name_.find(name);
  if (it == by_name_.end()) return outer_ != nullptr ? outer_->facts(name) : Facts{};
  const graph::Value& value = graph_.value(it->second);
  const bool as_f32 = value.weight && graph::is_float(value.type);
  return {as_f32 ? graph::ElementType::kF32 : value.type, value.shape,
          graph::constant_integers(graph_, it->second)};
}

std::string OnnxScope::constant(const std::string& base, const at::Tensor& tensor) {
  const at::Tensor dense = tensor.contiguous();
  const std::string name = fresh(base);
  model_.store.add(proto_, name, data_type_of(dense), dense.sizes().vec(), bytes_of(dense));
  Facts& facts = constants_[name];
  facts.type = graph::from_scalar_type(dense.scalar_type());
  facts.shape.emplace();
  for (const int64_t size : dense.sizes()) facts.shape->push_back(size);
  return name;
}

std::string OnnxScope::integers(const std::vector<int64_t>& values) {
  std::string& name = integer_lists_[values];
  if (!name.empty()) return name;
  const bool lengthy = values.size() > 8;
  name = constant(lengthy ? "i64_list" : fmt::format("i64_{}", fmt::join(values, "_")),
                  at::tensor(values, at::kLong));
  constants_[name].integers = values;
  return name;
}

std::string OnnxScope::integer(int64_t value) {
  std::string& name = integers_[value];
  if (!name.empty()) return name;
  name = constant(fmt::format("i64_scalar_{}", value), at::scalar_tensor(value, at::kLong));
  constants_[name].integers = std::vector<int64_t>{value};
  return name;
}

std::string OnnxScope::number(double value) {
  std::string& name = numbers_[value];
  if (name.empty())
    name = constant(fmt::format("f32_scalar_{}", value), at::scalar_tensor(value, at::kFloat));
  return name;
}

}  // namespace packlight::deploy
