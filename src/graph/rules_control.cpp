#include "graph/operator_rules.h"
#include "graph/weight.h"

namespace packlight::graph {
namespace {

// What both branches agree on; unknown where they differ.
std::optional<Shape> common(const std::optional<Shape>& a, const std::optional<Shape>& b) {
  if (!a || !b || a->size() != b->size()) return std::nullopt;
  Shape out(a->size());
  for (size_t i = 0; i < a->size(); ++i) {
    if ((*a)[i] == (*b)[i]) out[i] = (*a)[i];
  }
  return out;
}

// Tells a subgraph what is known of the captured values, from input `first` of the node on.
void pass_captures(InferContext& context, Graph& body) {
  const auto captures = static_cast<size_t>(context.node().captures);
  if (captures > context.input_count() || captures > body.inputs.size())
    context.contradiction("{} captured values, but fewer inputs", captures);
  for (size_t i = 0; i < captures; ++i) {
    const size_t outer = context.input_count() - captures + i;
    Value& inner = body.value(body.inputs[body.inputs.size() - captures + i]);
    if (inner.type == ElementType::kUndefined) inner.type = context.type(outer);
    if (!inner.shape) inner.shape = context.shape(outer);
  }
}

void infer_if(InferContext& context) {
  Graph &yes = context.subgraph("then_branch"), &no = context.subgraph("else_branch");
  for (Graph* branch : {&yes, &no}) {
    pass_captures(context, *branch);
    infer_shapes(*branch);
    if (branch->outputs.size() < context.output_count()) {
      context.contradiction("branch '{}' has {} outputs, the node {}", branch->name,
                            branch->outputs.size(), context.output_count());
    }
  }
  for (size_t i = 0; i < context.output_count(); ++i) {
    const Value &a = yes.value(yes.outputs[i]), &b = no.value(no.outputs[i]);
    const ElementType left = a.weight && is_float(a.type) ? ElementType::kF32 : a.type;
    const ElementType right = b.weight && is_float(b.type) ? ElementType::kF32 : b.type;
    context.set(i, left == right ? left : ElementType::kUndefined, common(a.shape, b.shape));
  }
}

// Inputs: trip count, condition, carried values, captured ones. Body: (iteration, condition,
// carried, captured) -> (condition, carried, scanned).
void infer_loop(InferContext& context) {
  Graph& body = context.subgraph("body");
  const size_t captures = context.node().captures;
  if (context.input_count() < 2 + captures) context.contradiction("fewer than two inputs");
  const size_t carried = context.input_count() - 2 - captures;
  if (body.inputs.size() != 2 + carried + captures || body.outputs.size() < 1 + carried) {
    context.contradiction("the body has {} inputs and {} outputs for {} carried values",
                          body.inputs.size() - captures, body.outputs.size(), carried);
  }
  pass_captures(context, body);
  for (size_t i = 0; i < carried; ++i) {  // shapes may change from one iteration to the next
    Value& inner = body.value(body.inputs[2 + i]);
    if (inner.type == ElementType::kUndefined) inner.type = context.type(2 + i);
  }
  infer_shapes(body);
  for (size_t i = 0; i < context.output_count(); ++i) {
    if (1 + i >= body.outputs.size())
      context.contradiction("the body has {} outputs, the node {}", body.outputs.size() - 1,
                            context.output_count());
    const Value& inner = body.value(body.outputs[1 + i]);
    std::optional<Shape> shape = inner.shape;
    if (i < carried) {
      shape = common(shape, context.shape(2 + i));
    } else if (shape) {
      shape->insert(shape->begin(), Dim());
    }
    context.set(i, inner.type, std::move(shape));
  }
}

constexpr OperatorRule kRules[] = {
    {"If", 1, kManyInputs, 1, kManyInputs, infer_if},
    {"Loop", 0, kManyInputs, 1, kManyInputs, infer_loop},
};

}  // namespace

std::span<const OperatorRule> control_rules() { return kRules; }

}  // namespace packlight::graph
