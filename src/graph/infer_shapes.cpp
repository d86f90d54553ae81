#include <ATen/ATen.h>

#include <array>
#include <unordered_map>

#include "graph/operator_rules.h"
#include "graph/weight.h"

namespace packlight::graph {

std::vector<const OperatorRule*> all_rules() {
  std::vector<const OperatorRule*> rules;
  for (const auto family :
       {activation_rules(), control_rules(), convolution_rules(), creation_rules(),
        elementwise_rules(), index_rules(), matrix_rules(), movement_rules(), normalization_rules(),
        pooling_rules(), quantized_rules(), recurrent_rules(), reduction_rules(),
        resampling_rules(), transformer_rules()}) {
    for (const OperatorRule& rule : family) rules.push_back(&rule);
  }
  return rules;
}

const OperatorRule* find_rule(std::string_view op, std::string_view domain) {
  static const auto table = [] {
    std::unordered_multimap<std::string_view, const OperatorRule*> rules;
    for (const OperatorRule* rule : all_rules()) rules.emplace(rule->op, rule);
    return rules;
  }();
  const auto [begin, end] = table.equal_range(op);
  for (auto it = begin; it != end; ++it) {
    if (it->second->domain == domain) return it->second;
  }
  return nullptr;
}

ElementType InferContext::type(size_t input) const {
  if (!has(input)) return ElementType::kUndefined;
  const Value& value = graph_.value(node().inputs[input]);
  return value.weight && is_float(value.type) ? ElementType::kF32 : value.type;
}

const std::optional<Shape>& InferContext::shape(size_t input) const {
  static const std::optional<Shape> kUnknown;
  return has(input) ? graph_.value(node().inputs[input]).shape : kUnknown;
}

std::optional<std::vector<int64_t>> InferContext::integers(size_t input) const {
  const auto elements = contents(input);
  return elements ? all_numbers(*elements) : std::nullopt;
}

std::optional<InferContext::Elements> InferContext::contents(size_t input) const {
  if (!has(input)) return std::nullopt;
  const ValueId id = node().inputs[input];
  if (const auto it = contents_.find(id); it != contents_.end()) return it->second;
  const auto numbers = constant_integers(graph_, id);
  if (!numbers) return std::nullopt;
  Elements elements;
  for (const int64_t number : *numbers) elements.push_back({number, ""});
  return elements;
}

std::optional<std::vector<double>> InferContext::numbers(size_t input) const {
  constexpr int64_t kMost = 256;  // what a rule reads has an entry or two an axis
  if (!has(input)) return std::nullopt;
  const auto& weight = graph_.value(node().inputs[input]).weight;
  const auto* dense = weight ? std::get_if<at::Tensor>(&*weight) : nullptr;
  if (dense == nullptr || !at::isFloatingType(dense->scalar_type()) || dense->dim() > 1 ||
      dense->numel() > kMost)
    return std::nullopt;
  const at::Tensor wide = dense->to(at::kDouble).contiguous();
  return std::vector<double>(wide.data_ptr<double>(), wide.data_ptr<double>() + wide.numel());
}

void InferContext::set_contents(size_t output, Elements elements) {
  if (output >= output_count() || node().outputs[output] == kNone) return;
  contents_[node().outputs[output]] = std::move(elements);
}

Graph& InferContext::subgraph(std::string_view attribute) const {
  const auto it = node().attributes.find(std::string(attribute));
  const auto* graph =
      it == node().attributes.end() ? nullptr : std::get_if<std::shared_ptr<Graph>>(&it->second);
  if (graph == nullptr || *graph == nullptr)
    contradiction("attribute '{}' holds no subgraph", attribute);
  return **graph;
}

void InferContext::set(size_t output, ElementType type, std::optional<Shape> shape) {
  if (output >= output_count() || node().outputs[output] == kNone) return;
  Value& value = graph_.value(node().outputs[output]);
  if (type != ElementType::kUndefined) {
    if (value.type != ElementType::kUndefined && value.type != type) {
      contradiction("output '{}' is declared {}, but the operator makes {}", value.name,
                    element_type_name(value.type), element_type_name(type));
    }
    value.type = type;
  }
  if (!shape) return;
  if (!value.shape) {
    value.shape = std::move(shape);
    return;
  }
  bool fits = value.shape->size() == shape->size();
  for (size_t i = 0; fits && i < shape->size(); ++i)
    fits = compatible((*value.shape)[i], (*shape)[i]);
  if (!fits) {
    contradiction("output '{}' is declared {}, but the operator makes {}", value.name,
                  to_string(*value.shape), to_string(*shape));
  }
  for (size_t i = 0; i < shape->size(); ++i)
    (*value.shape)[i] = merged((*value.shape)[i], (*shape)[i]);
}

bool compatible(const Dim& a, const Dim& b) {
  return !a.known() || !b.known() || a.value == b.value;
}

Dim merged(const Dim& a, const Dim& b) {
  if (a.known()) return a;
  if (b.known()) return b;
  return a.symbol.empty() ? b : a;
}

std::optional<Dim> broadcast(const Dim& a, const Dim& b) {
  if (a == b) return a;
  if (a.value == 1) return b;
  if (b.value == 1) return a;
  if (a.known() && b.known()) return std::nullopt;
  // A number above one decides: the other is either that number or one.
  if (a.known()) return a;
  if (b.known()) return b;
  return Dim();
}

std::optional<Shape> broadcast(const InferContext& context, const Shape& a, const Shape& b) {
  Shape out(std::max(a.size(), b.size()));
  for (size_t i = 0; i < out.size(); ++i) {  // from the last dimension on
    const Dim left = i < a.size() ? a[a.size() - 1 - i] : Dim(1);
    const Dim right = i < b.size() ? b[b.size() - 1 - i] : Dim(1);
    const auto dim = broadcast(left, right);
    if (!dim)
      context.contradiction("shapes {} and {} do not broadcast", to_string(a), to_string(b));
    out[out.size() - 1 - i] = *dim;
  }
  return out;
}

Dim product(std::span<const Dim> dims) {
  int64_t numbers = 1;
  Dim rest(1);
  bool overflow = false;
  for (const Dim& dim : dims) {
    if (dim.value == 0) return 0;
    if (!dim.known()) {
      rest = rest.value == 1 ? dim : Dim();
    } else if (__builtin_mul_overflow(numbers, dim.value, &numbers)) {
      overflow = true;  // a zero may still come
    }
  }
  if (overflow) return Dim();
  if (rest.value == 1) return numbers;
  return numbers == 1 ? rest : Dim();
}

ElementType same_type(const InferContext& context, size_t first, size_t second) {
  const ElementType left = context.type(first), right = context.type(second);
  if (left != right && left != ElementType::kUndefined && right != ElementType::kUndefined) {
    context.contradiction("element types {} and {} differ", element_type_name(left),
                          element_type_name(right));
  }
  return left != ElementType::kUndefined ? left : right;
}

void require_integers(const InferContext& context, size_t input) {
  const ElementType type = context.type(input);
  if (type != ElementType::kUndefined && type != ElementType::kI64 && type != ElementType::kI32) {
    context.contradiction("input {} is {}, not integers", input, element_type_name(type));
  }
}

std::optional<Shape> shape_in(const InferContext& context, size_t input) {
  require_integers(context, input);
  const auto& vector = context.shape(input);
  if (vector && vector->size() != 1)
    context.contradiction("a shape is given as {}, not as a vector", to_string(*vector));
  const bool counted = vector && (*vector)[0].known();
  if (counted && (*vector)[0].value > kMaxRank)
    context.contradiction("a shape of {} dimensions", (*vector)[0].value);
  const auto elements = context.contents(input);
  if (!elements) return counted ? std::optional(Shape((*vector)[0].value)) : std::nullopt;
  Shape shape;
  for (const InferContext::Element& element : *elements) {
    if (element.number && *element.number < 0)
      context.contradiction("dimension {} is {}", shape.size(), *element.number);
    shape.push_back(element.dim());
  }
  return shape;
}

int64_t normalised_axis(const InferContext& context, int64_t axis, int64_t rank) {
  if (axis < -rank || axis >= rank)
    context.contradiction("axis {} is outside a tensor of rank {}", axis, rank);
  return axis < 0 ? axis + rank : axis;
}

void infer_node(Graph& graph, NodeId id, InferContext::Contents& contents) {
  const Node& node = graph.node(id);
  const OperatorRule* rule = find_rule(node.op, node.domain);
  if (rule == nullptr) {
    fail(ErrorCode::kUnsupported, "[graph] node '{}': no shape rule for operator '{}{}{}'",
         node.name, node.domain, node.domain.empty() ? "" : ".", node.op);
  }
  const auto inputs = static_cast<int>(node.inputs.size());
  if (inputs < rule->min_inputs || inputs > rule->max_inputs) {
    fail(ErrorCode::kCorrupt, "[graph] node '{}' ({}): {} inputs, the operator takes {} to {}",
         node.name, node.op, inputs, rule->min_inputs, rule->max_inputs);
  }
  InferContext context(graph, id, contents);
  rule->infer(context);
}

std::optional<std::vector<int64_t>> all_numbers(const InferContext::Elements& elements) {
  std::vector<int64_t> numbers;
  for (const InferContext::Element& element : elements) {
    if (!element.number) return std::nullopt;
    numbers.push_back(*element.number);
  }
  return numbers;
}

InferContext::Contents infer_contents(Graph& graph) {
  InferContext::Contents contents;
  for (NodeId id = 0; id < static_cast<NodeId>(graph.nodes().size()); ++id)
    infer_node(graph, id, contents);
  return contents;
}

void infer_shapes(Graph& graph) { infer_contents(graph); }

std::unordered_map<ValueId, std::vector<int64_t>> known_integers(Graph& graph) {
  std::unordered_map<ValueId, std::vector<int64_t>> known;
  for (const auto& [id, elements] : infer_contents(graph)) {
    if (auto numbers = all_numbers(elements)) known.emplace(id, std::move(*numbers));
  }
  return known;
}

}  // namespace packlight::graph
