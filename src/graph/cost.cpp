#include "graph/cost.h"

#include <algorithm>

#include "base/fail.h"
#include "graph/weight.h"

namespace packlight::graph {
namespace {

std::optional<int64_t> product(const Shape& shape, size_t begin, size_t end) {
  int64_t result = 1;
  for (size_t i = begin; i < end; ++i) {
    if (!shape[i].known() || __builtin_mul_overflow(result, shape[i].value, &result))
      return std::nullopt;
  }
  return result;
}

std::optional<int64_t> times(std::optional<int64_t> a, std::optional<int64_t> b) {
  int64_t result = 0;
  if (!a || !b || __builtin_mul_overflow(*a, *b, &result)) return std::nullopt;
  return result;
}

const Shape* shape_of(const Graph& graph, const std::vector<ValueId>& ids, size_t index) {
  if (index >= ids.size() || ids[index] == kNone) return nullptr;
  const auto& shape = graph.value(ids[index]).shape;
  return shape ? &*shape : nullptr;
}

std::optional<int64_t> count(const Shape* shape) {
  return shape == nullptr ? std::nullopt : product(*shape, 0, shape->size());
}

// One output element of Conv is a sum over a kernel; one input element of ConvTranspose goes into
// as many sums.
std::optional<int64_t> convolution(const Graph& graph, const Node& node, bool transposed) {
  const Shape* weight = shape_of(graph, node.inputs, 1);
  if (weight == nullptr || weight->size() < 2) return std::nullopt;
  const Shape* per_element =
      transposed ? shape_of(graph, node.inputs, 0) : shape_of(graph, node.outputs, 0);
  return times(count(per_element), product(*weight, 1, weight->size()));
}

std::optional<int64_t> matrix_product(const Graph& graph, const Node& node) {
  const Shape* a = shape_of(graph, node.inputs, 0);
  if (a == nullptr || a->empty()) return std::nullopt;
  const bool trans_a = node.op == "Gemm" && node.integer("transA", 0) != 0;
  const Dim inner = trans_a ? a->front() : a->back();
  return times(count(shape_of(graph, node.outputs, 0)),
               inner.known() ? std::optional(inner.value) : std::nullopt);
}

// Scores and mixing: [batch, heads, n, m] of `size` products each.
std::optional<int64_t> attention(const Graph& graph, const Node& node) {
  const Shape *q = shape_of(graph, node.inputs, 0), *k = shape_of(graph, node.inputs, 1),
              *v = shape_of(graph, node.inputs, 2);
  if (q == nullptr || k == nullptr || v == nullptr || k->size() < 3) return std::nullopt;
  const Dim keys = (*k)[k->size() - 2];
  if (!keys.known()) return std::nullopt;
  const auto scores = times(count(q), keys.value);
  const auto mixed = times(count(shape_of(graph, node.outputs, 0)), keys.value);
  if (!scores || !mixed) return std::nullopt;
  return *scores + *mixed;
}

// W [directions, gates * hidden, input] and R [directions, gates * hidden, hidden] once for each
// time step and sample.
std::optional<int64_t> recurrent(const Graph& graph, const Node& node) {
  const Shape* x = shape_of(graph, node.inputs, 0);
  if (x == nullptr || x->size() != 3) return std::nullopt;
  const auto w = count(shape_of(graph, node.inputs, 1)), r = count(shape_of(graph, node.inputs, 2));
  if (!w || !r) return std::nullopt;
  return times(product(*x, 0, 2), *w + *r);
}

int64_t element_bytes(ElementType type) {
  if (type == ElementType::kUndefined || type == ElementType::kString) return 0;
  return static_cast<int64_t>(c10::elementSize(to_scalar_type(type)));
}

}  // namespace

void bind_input_shapes(Graph& graph, const std::map<std::string, std::vector<int64_t>>& shapes) {
  std::map<std::string, int64_t> symbols;
  for (const auto& [name, dims] : shapes) {
    const auto id = graph.find(name);
    if (!id || std::find(graph.inputs.begin(), graph.inputs.end(), *id) == graph.inputs.end())
      fail(ErrorCode::kInvalidArgument, "[graph] '{}' has no input '{}'", graph.name, name);
    Value& value = graph.value(*id);
    Shape wanted;
    for (const int64_t dim : dims) {
      if (dim < 0)
        fail(ErrorCode::kInvalidArgument, "[graph] input '{}': dimension {} is negative", name,
             dim);
      wanted.push_back(dim);
    }
    if (value.shape) {
      bool fits = value.shape->size() == wanted.size();
      for (size_t i = 0; fits && i < wanted.size(); ++i) {
        const Dim& declared = (*value.shape)[i];
        fits = !declared.known() || declared.value == dims[i];
        if (fits && !declared.symbol.empty())
          fits = symbols.emplace(declared.symbol, dims[i]).first->second == dims[i];
      }
      if (!fits) {
        fail(ErrorCode::kInvalidArgument, "[graph] input '{}' is {}, so it cannot be {}", name,
             to_string(*value.shape), to_string(wanted));
      }
    }
    value.shape = std::move(wanted);
  }
  for (const ValueId id : graph.inputs) {
    Value& value = graph.value(id);
    if (!value.shape) continue;
    for (Dim& dim : *value.shape) {
      const auto bound = symbols.find(dim.symbol);
      if (!dim.known() && !dim.symbol.empty() && bound != symbols.end()) dim = Dim(bound->second);
    }
  }
  for (ValueId id = 0; id < static_cast<ValueId>(graph.values().size()); ++id) {
    if (graph.value(id).producer >= 0) graph.value(id).shape.reset();
  }
  infer_shapes(graph);
}

std::optional<int64_t> element_count(const Value& value) {
  return count(value.shape ? &*value.shape : nullptr);
}

std::optional<int64_t> multiply_accumulates(const Graph& graph, const Node& node) {
  if (node.domain == "com.microsoft" && node.op == "MatMulNBits")
    return matrix_product(graph, node);
  if (!node.domain.empty()) return 0;
  if (node.op == "Conv" || node.op == "ConvInteger" || node.op == "QLinearConv") {
    if (node.op != "QLinearConv") return convolution(graph, node, false);
    const Shape* weight = shape_of(graph, node.inputs, 3);
    if (weight == nullptr || weight->size() < 2) return std::nullopt;
    return times(count(shape_of(graph, node.outputs, 0)), product(*weight, 1, weight->size()));
  }
  if (node.op == "ConvTranspose") return convolution(graph, node, true);
  if (node.op == "Gemm" || node.op == "MatMul" || node.op == "MatMulInteger" ||
      node.op == "QLinearMatMul")
    return matrix_product(graph, node);
  if (node.op == "Attention") return attention(graph, node);
  if (node.op == "LSTM" || node.op == "GRU" || node.op == "RNN") return recurrent(graph, node);
  return 0;
}

GraphCost total_cost(const Graph& graph) {
  GraphCost cost;
  for (const Value& value : graph.values()) {
    if (!value.weight) continue;
    int64_t elements = 1;
    for (const int64_t size : weight_shape(*value.weight)) elements *= size;
    cost.parameters += elements;
    cost.bytes += static_cast<int64_t>(weight_bytes(*value.weight));
  }
  for (const Node& node : graph.nodes()) {
    const auto some = multiply_accumulates(graph, node);
    cost.macs = cost.macs && some ? std::optional(*cost.macs + *some) : std::nullopt;
  }
  return cost;
}

std::optional<int64_t> peak_activation_bytes(const Graph& graph) {
  std::vector<NodeId> last_use(graph.values().size(), -1);
  const auto end = static_cast<NodeId>(graph.nodes().size());
  for (NodeId id = 0; id < end; ++id) {
    for (const ValueId input : graph.node(id).inputs) {
      if (input != kNone) last_use[input] = id;
    }
  }
  for (const ValueId id : graph.outputs) last_use[id] = end;
  std::vector<int64_t> freed(end + 1, 0);
  int64_t live = 0, peak = 0;
  const auto make = [&](ValueId id, NodeId at) {
    const Value& value = graph.value(id);
    const auto elements = element_count(value);
    if (!elements) return false;
    const int64_t bytes = *elements * element_bytes(value.type);
    live += bytes;
    freed[std::min(end, std::max(last_use[id], at))] += bytes;
    return true;
  };
  for (const ValueId id : graph.inputs) {
    if (!make(id, 0)) return std::nullopt;
  }
  for (NodeId id = 0; id < end; ++id) {
    for (const ValueId output : graph.node(id).outputs) {
      if (output != kNone && !make(output, id)) return std::nullopt;
    }
    peak = std::max(peak, live);
    live -= freed[id];
  }
  return std::max(peak, live);
}

}  // namespace packlight::graph
