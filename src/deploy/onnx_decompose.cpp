// Operators that came after opset 13 as what they are made of.
#include <ATen/ATen.h>

#include <cmath>
#include <numbers>

#include "deploy/onnx_downgrade.h"
#include "graph/weight.h"

namespace packlight::deploy {
namespace {

// axis, axis + 1, ... of a normalization: counted from the end, or else the rank has to be known.
std::vector<int64_t> axes_from(OnnxScope& scope, const OnnxNode& node) {
  const int64_t axis = node.integer("axis", -1);
  int64_t end = 0;
  if (axis >= 0) {
    const auto shape = scope.facts(node.inputs.at(0)).shape;
    if (!shape) scope.refuse(node, "the rank of its input is not known, and axis is {}", axis);
    end = static_cast<int64_t>(shape->size());
  }
  std::vector<int64_t> axes;
  for (int64_t i = axis; i < end; ++i) axes.push_back(i);
  return axes;
}

std::string mean(OnnxParts& parts, const std::string& x, const std::vector<int64_t>& axes,
                 std::string output = "") {
  return parts.make("ReduceMean", {x, parts.scope().integers(axes)}, {{"keepdims", int64_t{1}}},
                    std::move(output));
}

}  // namespace

std::string OnnxParts::make(const std::string& op, std::vector<std::string> inputs,
                            std::map<std::string, graph::Attribute> attributes,
                            std::string output) {
  OnnxNode part;
  part.name = count_ == 0 ? fmt::format("{}/{}", node_.name, op)
                          : fmt::format("{}/{}_{}", node_.name, op, count_);
  ++count_;
  part.op = op;
  part.inputs = std::move(inputs);
  if (output.empty()) output = scope_.fresh(node_.name + "/" + op + ".out");
  part.outputs = {output};
  part.attributes = std::move(attributes);
  scope_.emit(std::move(part));
  return output;
}

std::string column_minus_row(OnnxParts& parts, const std::string& value) {
  OnnxScope& scope = parts.scope();
  const std::string shape = parts.make("Shape", {value});
  const std::string zero = scope.integer(0), one = scope.integer(1);
  const auto count = [&](int64_t axis) {
    const std::string size =
        parts.make("Gather", {shape, scope.integer(axis)}, {{"axis", int64_t{0}}});
    return parts.make("Range", {zero, size, one});
  };
  const std::string rows = parts.make("Unsqueeze", {count(-2), scope.integers({1})});
  return parts.make("Sub", {count(-1), rows});
}

void decompose_cast_like(OnnxScope& scope, OnnxNode node) {
  const graph::ElementType type = scope.facts(node.inputs.at(1)).type;
  if (type == graph::ElementType::kUndefined) scope.needs(node, 15, "a type that is not known");
  OnnxParts parts(scope, node);
  parts.make("Cast", {node.inputs[0]}, {{"to", graph::to_onnx_type(type)}}, node.outputs.at(0));
}

// 0.5 x (1 + erf(x / sqrt 2)), or 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
void decompose_gelu(OnnxScope& scope, OnnxNode node) {
  OnnxParts parts(scope, node);
  const std::string& x = node.inputs.at(0);
  std::string turned;
  if (node.text("approximate", "none") == "tanh") {
    const std::string cube = parts.make("Mul", {parts.make("Mul", {x, x}), x});
    const std::string sum =
        parts.make("Add", {x, parts.make("Mul", {cube, scope.number(0.044715)})});
    const double factor = std::sqrt(2 * std::numbers::inv_pi);
    turned = parts.make("Tanh", {parts.make("Mul", {sum, scope.number(factor)})});
  } else {
    turned = parts.make("Erf", {parts.make("Div", {x, scope.number(std::numbers::sqrt2)})});
  }
  const std::string half = parts.make("Mul", {x, scope.number(0.5)});
  parts.make("Mul", {half, parts.make("Add", {turned, scope.number(1)})}, {}, node.outputs.at(0));
}

void decompose_hard_swish(OnnxScope& scope, OnnxNode node) {
  OnnxParts parts(scope, node);
  const std::string& x = node.inputs.at(0);
  const std::string gate = parts.make("HardSigmoid", {x}, {{"alpha", 1.0 / 6}, {"beta", 0.5}});
  parts.make("Mul", {x, gate}, {}, node.outputs.at(0));
}

// x tanh(softplus(x))
void decompose_mish(OnnxScope& scope, OnnxNode node) {
  OnnxParts parts(scope, node);
  const std::string& x = node.inputs.at(0);
  const std::string gate = parts.make("Tanh", {parts.make("Softplus", {x})});
  parts.make("Mul", {x, gate}, {}, node.outputs.at(0));
}

void decompose_layer_normalization(OnnxScope& scope, OnnxNode node) {
  OnnxParts parts(scope, node);
  const std::string& x = node.inputs.at(0);
  const auto axes = axes_from(scope, node);
  const std::string centre = mean(parts, x, axes, node.makes(1) ? node.outputs[1] : "");
  const std::string apart = parts.make("Sub", {x, centre});
  const std::string variance = mean(parts, parts.make("Mul", {apart, apart}), axes);
  const std::string deviation = parts.make(
      "Sqrt", {parts.make("Add", {variance, scope.number(node.number("epsilon", 1e-5))})});
  if (node.makes(2)) parts.make("Reciprocal", {deviation}, {}, node.outputs[2]);
  const std::string unit = parts.make("Div", {apart, deviation});
  if (!node.makes(0)) return;
  const bool bias = node.has(2);
  const std::string scaled =
      parts.make("Mul", {unit, node.inputs.at(1)}, {}, bias ? "" : node.outputs[0]);
  if (bias) parts.make("Add", {scaled, node.inputs[2]}, {}, node.outputs[0]);
}

void decompose_rms_normalization(OnnxScope& scope, OnnxNode node) {
  OnnxParts parts(scope, node);
  const std::string& x = node.inputs.at(0);
  const std::string square = mean(parts, parts.make("Mul", {x, x}), axes_from(scope, node));
  const std::string root =
      parts.make("Sqrt", {parts.make("Add", {square, scope.number(node.number("epsilon", 1e-5))})});
  parts.make("Mul", {parts.make("Div", {x, root}), node.inputs.at(1)}, {}, node.outputs.at(0));
}

// Each group as one channel of an InstanceNormalization; then scale and bias by channel, or by
// group as before opset 21 (scale_by_group, the importer's mark).
void decompose_group_normalization(OnnxScope& scope, OnnxNode node) {
  const bool by_group = node.integer("scale_by_group", 0) != 0;
  node.attributes.erase("scale_by_group");
  if (scope.opset() >= 21 && !by_group) return scope.emit_as_is(std::move(node));
  const int64_t groups = node.integer("num_groups", 0);
  const auto scale_shape = scope.facts(node.inputs.at(1)).shape;
  if (groups <= 0) scope.refuse(node, "num_groups is {}", groups);
  int64_t channels = groups;
  if (!by_group) {
    if (!scale_shape || scale_shape->size() != 1 || !(*scale_shape)[0].known())
      scope.needs(node, 21, "a number of channels that is not known");
    channels = (*scale_shape)[0].value;
  }
  OnnxParts parts(scope, node);
  const std::string& x = node.inputs.at(0);
  const std::string grouped = parts.make("Reshape", {x, scope.integers({0, groups, -1})});
  const std::string ones = scope.constant(node.name + "/ones", at::ones({groups})),
                    zeros = scope.constant(node.name + "/zeros", at::zeros({groups}));
  std::string y = parts.make("InstanceNormalization", {grouped, ones, zeros},
                             {{"epsilon", node.number("epsilon", 1e-5)}});
  if (!by_group) y = parts.make("Reshape", {y, scope.integers({0, channels, -1})});
  const auto column = [&](const std::string& vector) {
    return parts.make("Unsqueeze", {vector, scope.integers({1})});
  };
  y = parts.make("Mul", {y, column(node.inputs[1])});
  y = parts.make("Add", {y, column(node.inputs.at(2))});
  parts.make("Reshape", {y, parts.make("Shape", {x})}, {}, node.outputs.at(0));
}

void decompose_trilu(OnnxScope& scope, OnnxNode node) {
  const std::string& x = node.inputs.at(0);
  const graph::ElementType type = scope.facts(x).type;
  if (type == graph::ElementType::kUndefined) scope.needs(node, 14, "a type that is not known");
  OnnxParts parts(scope, node);
  const std::string kept =
      parts.make(node.integer("upper", 1) != 0 ? "GreaterOrEqual" : "LessOrEqual",
                 {column_minus_row(parts, x), node.has(1) ? node.inputs[1] : scope.integer(0)});
  const std::string zero =
      scope.constant(node.name + "/zero", at::zeros({}, graph::to_scalar_type(type)));
  parts.make("Where", {kept, x, zero}, {}, node.outputs.at(0));
}

}  // namespace packlight::deploy
