#include "graph/operator_rules.h"
#include "graph/window_rules.h"

namespace packlight::graph {
namespace {

// X [batch, channels, spatial...]
void check_rank(const InferContext& context, const Shape& x) {
  if (x.size() < 3) context.contradiction("input {} has no spatial axis", to_string(x));
}

std::optional<Shape> pooled(const InferContext& context) {
  const std::vector<int64_t> kernel = context.node().integers("kernel_shape");
  if (kernel.empty()) context.contradiction("kernel_shape is missing");
  if (context.node().integer("p", 2) < 1) context.contradiction("p is not positive");
  const auto& x = context.shape(0);
  if (!x) return std::nullopt;
  check_rank(context, *x);
  if (kernel.size() != x->size() - 2) {
    context.contradiction("kernel_shape has {} entries, input {} has {} spatial axes",
                          kernel.size(), to_string(*x), x->size() - 2);
  }
  return windowed_shape(context, *x, Shape(kernel.begin(), kernel.end()));
}

void infer_pool(InferContext& context) { context.set(0, context.type(0), pooled(context)); }

void infer_max_pool(InferContext& context) {
  infer_pool(context);
  context.set(1, ElementType::kI64, pooled(context));
}

void infer_global_pool(InferContext& context) {
  const auto& x = context.shape(0);
  if (!x) return context.set(0, context.type(0), std::nullopt);
  check_rank(context, *x);
  Shape out(x->size(), Dim(1));
  out[0] = (*x)[0];
  out[1] = (*x)[1];
  context.set(0, context.type(0), std::move(out));
}

constexpr OperatorRule kRules[] = {
    {"MaxPool", 1, 1, 1, 2, infer_max_pool},
    {"AveragePool", 1, 1, 1, 1, infer_pool},
    {"LpPool", 1, 1, 1, 1, infer_pool},
    {"GlobalAveragePool", 1, 1, 1, 1, infer_global_pool},
    {"GlobalMaxPool", 1, 1, 1, 1, infer_global_pool},
    {"GlobalLpPool", 1, 1, 1, 1, infer_global_pool},
};

}  // namespace

std::span<const OperatorRule> pooling_rules() { return kRules; }

}  // namespace packlight::graph
