#include "graph/simplify/fold_constants.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>

#include "graph/simplify/edit.h"
#include "graph/simplify/known.h"
#include "graph/weight.h"
#include "packlight/error.h"

namespace packlight::graph {
namespace {

// Random, or a weight in a form that is meant to stay.
constexpr std::array<std::string_view, 10> kNeverFolded = {
    "RandomNormal",   "RandomNormalLike",
    "RandomUniform",  "RandomUniformLike",
    "Multinomial",    "Bernoulli",
    "Dropout",        "DequantizeLinear",
    "QuantizeLinear", "DynamicQuantizeLinear"};
// Their outputs' sizes depend on what the inputs hold, but are no larger than a few times theirs.
constexpr std::array<std::string_view, 3> kDataDependent = {"NonZero", "Unique", "Compress"};

template <size_t n>
bool among(const std::array<std::string_view, n>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool holds_subgraph(const Node& node) {
  return std::any_of(node.attributes.begin(), node.attributes.end(), [](const auto& entry) {
    return std::holds_alternative<std::shared_ptr<Graph>>(entry.second);
  });
}

class Folder {
 public:
  Folder(Graph& graph, const Evaluator& evaluate, const FoldLimits& limits)
      : edit_(graph), evaluate_(evaluate), limits_(limits), to_factor_(graph.values().size()) {
    mark_factors();
  }

  int run() {
    int folded = 0;
    for (NodeId id = 0; id < edit_.size(); ++id) {
      if (!edit_.removed(id) && fold(id)) ++folded;
    }
    edit_.finish();
    return folded;
  }

 private:
  // Values that reach the second factor of a product through Transpose and Reshape alone.
  void mark_factors() {
    for (NodeId id = edit_.size(); id-- > 0;) {
      const Node& node = edit_.node(id);
      if (!node.domain.empty()) continue;
      if ((node.op == "MatMul" || node.op == "Gemm") && node.inputs.size() > 1) {
        to_factor_[node.inputs[1]] = true;
      } else if ((node.op == "Transpose" || node.op == "Reshape") && to_factor_[node.outputs[0]]) {
        to_factor_[node.inputs[0]] = true;
      }
    }
  }

  bool keeps_orientation(const Node& node) const {
    const bool view = node.op == "Transpose" || node.op == "Reshape";
    if (!view || !to_factor_[node.outputs[0]]) return false;
    const auto& shape = edit_.shape(node.inputs[0]);
    return shape && shape->size() >= 2;
  }

  std::optional<std::vector<at::Tensor>> constant_inputs(const Node& node) const {
    std::vector<at::Tensor> inputs;
    for (const ValueId id : node.inputs) {
      const at::Tensor* tensor = dense_constant(edit_.graph(), id);
      const bool given = std::find(edit_.graph().inputs.begin(), edit_.graph().inputs.end(), id) !=
                         edit_.graph().inputs.end();  // a default that the caller may override
      if (id != kNone && (tensor == nullptr || given)) return std::nullopt;
      inputs.push_back(id == kNone ? at::Tensor() : *tensor);
    }
    return inputs;
  }

  bool small_enough(const Node& node, const std::vector<at::Tensor>& inputs) const {
    int64_t given = 0;
    for (const at::Tensor& input : inputs) given += input.defined() ? input.nbytes() : 0;
    const int64_t bound = std::min(limits_.output_bytes, given + limits_.growth_bytes);
    if (among(kDataDependent, node.op)) return given <= limits_.growth_bytes;
    for (const ValueId output : node.outputs) {
      if (output == kNone) continue;
      const Value& value = edit_.graph().value(output);
      if (!value.shape || value.type == ElementType::kUndefined ||
          value.type == ElementType::kString)
        return false;
      auto bytes = static_cast<int64_t>(c10::elementSize(to_scalar_type(value.type)));
      for (const Dim& dim : *value.shape) {
        if (!dim.known() || __builtin_mul_overflow(bytes, dim.value, &bytes)) return false;
      }
      if (bytes > bound) return false;
    }
    return true;
  }

  bool fits(ValueId output, const at::Tensor& tensor) const {
    const Value& value = edit_.graph().value(output);
    if (!tensor.defined() || tensor.nbytes() > limits_.output_bytes) return false;
    const at::ScalarType type = tensor.scalar_type();
    if (value.type != ElementType::kUndefined &&
        (value.type == ElementType::kString || to_scalar_type(value.type) != type))
      return false;
    return !tensor.is_floating_point() || at::isfinite(tensor).all().item<bool>();
  }

  bool fold(NodeId id) {
    const Node& node = edit_.node(id);
    if (!node.domain.empty() || among(kNeverFolded, node.op) || holds_subgraph(node) ||
        node.input_quant != ActivationQuant::kNone || keeps_orientation(node))
      return false;
    const auto inputs = constant_inputs(node);
    if (!inputs || !small_enough(node, *inputs)) return false;
    std::vector<at::Tensor> results;
    try {
      results = evaluate_(edit_.graph(), node, *inputs);
    } catch (const Error& error) {
      if (error.code() == ErrorCode::kInterrupted) throw;
      return false;  // it says so again when the graph runs
    }
    const std::vector<ValueId> outputs = node.outputs;
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i] != kNone && (i >= results.size() || !fits(outputs[i], results[i])))
        return false;
    }
    edit_.remove(id);
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i] != kNone) hold(edit_.graph(), outputs[i], results[i].detach());
    }
    return true;
  }

  Edit edit_;
  const Evaluator& evaluate_;
  const FoldLimits& limits_;
  std::vector<bool> to_factor_;  // by value
};

}  // namespace

int fold_constants(Graph& graph, const Evaluator& evaluate, const FoldLimits& limits) {
  return evaluate ? Folder(graph, evaluate, limits).run() : 0;
}

}  // namespace packlight::graph
