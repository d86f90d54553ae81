// Operators of opset 23 in the form that older opsets have
// (https://github.com/onnx/onnx/blob/main/docs/Changelog.md): the counterpart of the importer's
// onnx_upgrade.cpp.
#include "deploy/onnx_downgrade.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <unordered_map>

#include "graph/weight.h"

namespace packlight::deploy {
namespace {

using graph::ElementType;

constexpr int64_t kAlways = std::numeric_limits<int64_t>::max();

bool same_as(const graph::Attribute& attribute, const graph::Attribute& other) {
  if (attribute.index() != other.index()) return false;
  if (const auto* value = std::get_if<int64_t>(&attribute))
    return *value == std::get<int64_t>(other);
  if (const auto* value = std::get_if<std::string>(&attribute))
    return *value == std::get<std::string>(other);
  return false;
}

// An attribute that came with opset `since`: dropped where it says what older opsets do anyway.
void newer_attribute(OnnxScope& scope, OnnxNode& node, const std::string& name, int64_t since,
                     const graph::Attribute& usual) {
  const auto it = node.attributes.find(name);
  if (scope.opset() >= since || it == node.attributes.end()) return;
  if (!same_as(it->second, usual)) scope.needs(node, since, fmt::format("attribute '{}'", name));
  node.attributes.erase(it);
}

void newer_types(OnnxScope& scope, const OnnxNode& node, int64_t since,
                 std::initializer_list<ElementType> types) {
  if (!node.has(0) || scope.opset() >= since) return;
  const ElementType type = scope.facts(node.inputs[0]).type;
  if (std::find(types.begin(), types.end(), type) != types.end())
    scope.needs(node, since, fmt::format("element type {}", graph::element_type_name(type)));
}

void arithmetic(OnnxScope& scope, OnnxNode node) {
  newer_types(scope, node, 14, {ElementType::kI8, ElementType::kI16, ElementType::kU8});
  scope.emit_as_is(std::move(node));
}

void relu(OnnxScope& scope, OnnxNode node) {
  newer_types(scope, node, 14,
              {ElementType::kI8, ElementType::kI16, ElementType::kI32, ElementType::kI64});
  scope.emit_as_is(std::move(node));
}

// `dilations` came to a pooling operator at opset `since`; all ones may be left out before.
void drop_dilations(OnnxScope& scope, OnnxNode& node, int64_t since) {
  const auto it = node.attributes.find("dilations");
  if (it == node.attributes.end()) return;
  const auto* dilations = std::get_if<std::vector<int64_t>>(&it->second);
  const bool none = dilations == nullptr || std::all_of(dilations->begin(), dilations->end(),
                                                        [](int64_t d) { return d == 1; });
  if (!none) scope.needs(node, since, "attribute 'dilations'");
  node.attributes.erase(it);
}

void average_pool(OnnxScope& scope, OnnxNode node) {
  drop_dilations(scope, node, 19);
  scope.emit_as_is(std::move(node));
}

void lp_pool(OnnxScope& scope, OnnxNode node) {
  drop_dilations(scope, node, 18);
  newer_attribute(scope, node, "ceil_mode", 18, int64_t{0});
  scope.emit_as_is(std::move(node));
}

void batch_normalization(OnnxScope& scope, OnnxNode node) {
  newer_attribute(scope, node, "training_mode", 14, int64_t{0});
  scope.emit_as_is(std::move(node));
}

void cast(OnnxScope& scope, OnnxNode node) {
  node.attributes.erase("saturate");  // is about 8-bit floats, which the graph has not
  node.attributes.erase("round_mode");
  scope.emit_as_is(std::move(node));
}

void cast_like(OnnxScope& scope, OnnxNode node) {
  node.attributes.erase("saturate");
  if (scope.opset() < 15) return decompose_cast_like(scope, std::move(node));
  scope.emit_as_is(std::move(node));
}

void recurrent(OnnxScope& scope, OnnxNode node) {
  newer_attribute(scope, node, "layout", 14, int64_t{0});
  scope.emit_as_is(std::move(node));
}

void dequantize(OnnxScope& scope, OnnxNode node) {
  if (node.integer("output_dtype", 0) == 0)
    node.attributes.erase("output_dtype");  // that of the scale
  newer_attribute(scope, node, "output_dtype", 23, int64_t{onnx::TensorProto::FLOAT});
  newer_attribute(scope, node, "block_size", 21, int64_t{0});
  newer_types(scope, node, 21, {ElementType::kI16});
  scope.emit_as_is(std::move(node));
}

void quantize(OnnxScope& scope, OnnxNode node) {
  newer_attribute(scope, node, "precision", 23, int64_t{0});
  newer_attribute(scope, node, "block_size", 21, int64_t{0});
  if (scope.opset() < 19) node.attributes.erase("saturate");  // is about 8-bit floats
  const int64_t type = node.integer("output_dtype", 0);
  if (scope.opset() < 21) {
    node.attributes.erase("output_dtype");
    if (type == onnx::TensorProto::INT16) scope.needs(node, 21, "element type I16");
    if (node.has(2) && scope.facts(node.inputs[2]).type == ElementType::kI16)
      scope.needs(node, 21, "element type I16");
    if (type == onnx::TensorProto::INT8 && !node.has(2)) {  // only a zero point says so
      OnnxParts parts(scope, node);
      node.inputs.resize(3);
      node.inputs[2] = parts.make("Cast", {parts.make("Mul", {node.inputs.at(1), scope.number(0)})},
                                  {{"to", type}});
    }
  }
  scope.emit_as_is(std::move(node));
}

// What opset 18 says by its inputs where opset 13 has attributes.
void pad(OnnxScope& scope, OnnxNode node) {
  if (scope.opset() < 19 && node.text("mode", "constant") == "wrap")
    scope.needs(node, 19, "mode 'wrap'");
  if (scope.opset() < 18 && node.has(3)) {
    const auto axes = scope.facts(node.inputs[3]).integers,
               pads = scope.facts(node.inputs.at(1)).integers;
    const auto shape = scope.facts(node.inputs[0]).shape;
    if (!axes || !pads || !shape || pads->size() != 2 * axes->size())
      scope.needs(node, 18, "input 'axes' (unless axes, pads and rank are known)");
    const auto rank = static_cast<int64_t>(shape->size());
    std::vector<int64_t> all(2 * rank, 0);
    for (size_t i = 0; i < axes->size(); ++i) {
      const int64_t axis = (*axes)[i] + ((*axes)[i] < 0 ? rank : 0);
      if (axis < 0 || axis >= rank) scope.refuse(node, "axis {} of rank {}", (*axes)[i], rank);
      all[axis] = (*pads)[i];
      all[rank + axis] = (*pads)[axes->size() + i];
    }
    node.inputs[1] = scope.integers(all);
    node.inputs.resize(3);
  }
  scope.emit_as_is(std::move(node));
}

void reduce(OnnxScope& scope, OnnxNode node) {
  if (node.op == "ReduceMax" || node.op == "ReduceMin")
    newer_types(scope, node, 20, {ElementType::kBool});
  if (scope.opset() >= 18) return scope.emit_as_is(std::move(node));
  std::vector<int64_t> axes;
  if (node.has(1)) {
    const auto known = scope.facts(node.inputs[1]).integers;
    if (!known) scope.needs(node, 18, "input 'axes' that is no constant");
    axes = *known;
  }
  const bool none = node.integer("noop_with_empty_axes", 0) != 0 && axes.empty();
  node.attributes.erase("noop_with_empty_axes");
  node.inputs.resize(1);
  if (none) {  // still what is done to each element
    const bool plain = node.op == "ReduceMax" || node.op == "ReduceMin" ||
                       node.op == "ReduceMean" || node.op == "ReduceProd";
    if (!plain) scope.needs(node, 18, "attribute 'noop_with_empty_axes'");
    node.op = "Identity";
    node.attributes.clear();
  } else if (!axes.empty()) {
    node.attributes["axes"] = axes;
  }
  scope.emit_as_is(std::move(node));
}

void reshape(OnnxScope& scope, OnnxNode node) {
  if (node.integer("allowzero", 0) != 0) {
    const auto target = scope.facts(node.inputs.at(1)).integers;
    if (!target || std::find(target->begin(), target->end(), 0) != target->end())
      scope.needs(node, 14, "attribute 'allowzero'");
  }
  node.attributes.erase("allowzero");
  scope.emit_as_is(std::move(node));
}

void resize(OnnxScope& scope, OnnxNode node) {
  newer_attribute(scope, node, "antialias", 18, int64_t{0});
  newer_attribute(scope, node, "keep_aspect_ratio_policy", 18, std::string("stretch"));
  if (scope.opset() < 18 && node.attributes.count("axes") != 0)
    scope.needs(node, 18, "attribute 'axes'");
  if (scope.opset() < 19 &&
      node.text("coordinate_transformation_mode", "half_pixel") == "half_pixel_symmetric")
    scope.needs(node, 19, "mode 'half_pixel_symmetric'");
  scope.emit_as_is(std::move(node));
}

void scatter(OnnxScope& scope, OnnxNode node) {
  const std::string reduction = node.text("reduction", "none");
  if (reduction == "max" || reduction == "min") {
    if (scope.opset() < 18) scope.needs(node, 18, "a reduction by " + reduction);
  }
  newer_attribute(scope, node, "reduction", 16, std::string("none"));
  scope.emit_as_is(std::move(node));
}

void shape(OnnxScope& scope, OnnxNode node) {
  const int64_t start = node.integer("start", 0);
  const int64_t end = node.integer("end", std::numeric_limits<int64_t>::max());
  const bool whole = start == 0 && node.attributes.count("end") == 0;
  node.attributes.clear();
  if (whole) return scope.emit_as_is(std::move(node));
  OnnxParts parts(scope, node);
  const std::string all = parts.make("Shape", {node.inputs.at(0)});
  parts.make("Slice", {all, scope.integers({start}), scope.integers({end})}, {},
             node.outputs.at(0));
}

// Opset 18 wants the number of parts where their sizes are not given; before, the parts were equal.
void split(OnnxScope& scope, OnnxNode node) {
  const auto parts = static_cast<int64_t>(node.outputs.size());
  node.attributes.erase("num_outputs");
  if (scope.opset() >= 18 && !node.has(1)) node.attributes["num_outputs"] = parts;
  if (scope.opset() < 18 && !node.has(1)) {
    const auto shape = scope.facts(node.inputs.at(0)).shape;
    if (shape && !shape->empty()) {
      const auto rank = static_cast<int64_t>(shape->size());
      const int64_t axis = node.integer("axis", 0) + (node.integer("axis", 0) < 0 ? rank : 0);
      const graph::Dim dim = axis >= 0 && axis < rank ? (*shape)[axis] : graph::Dim();
      if (dim.known() && dim.value % parts != 0) {
        const int64_t size = (dim.value + parts - 1) / parts;
        std::vector<int64_t> sizes;
        for (int64_t i = 0; i < parts; ++i)
          sizes.push_back(std::clamp<int64_t>(dim.value - i * size, 0, size));
        node.inputs.resize(2);
        node.inputs[1] = scope.integers(sizes);
      }
    }
  }
  scope.emit_as_is(std::move(node));
}

using Downgrade = void (*)(OnnxScope&, OnnxNode);

struct Form {
  int64_t since;  // the lowest opset whose form is the graph's
  Downgrade older;
};

const std::unordered_map<std::string_view, Form>& forms() {
  static const std::unordered_map<std::string_view, Form> table = {
      {"Add", {14, arithmetic}},
      {"Attention", {kAlways, decompose_attention}},  // a window is no opset's
      {"AveragePool", {19, average_pool}},
      {"BatchNormalization", {14, batch_normalization}},
      {"Cast", {19, cast}},
      {"CastLike", {19, cast_like}},
      {"DequantizeLinear", {23, dequantize}},
      {"Div", {14, arithmetic}},
      {"GRU", {14, recurrent}},
      {"LpPool", {18, lp_pool}},
      {"Gelu", {20, decompose_gelu}},
      {"GroupNormalization", {kAlways, decompose_group_normalization}},  // scale_by_group is none's
      {"HardSwish", {14, decompose_hard_swish}},
      {"LSTM", {14, recurrent}},
      {"LayerNormalization", {17, decompose_layer_normalization}},
      {"Mish", {18, decompose_mish}},
      {"Mul", {14, arithmetic}},
      {"Pad", {19, pad}},
      {"QuantizeLinear", {23, quantize}},
      {"RMSNormalization", {23, decompose_rms_normalization}},
      {"RNN", {14, recurrent}},
      {"ReduceL1", {18, reduce}},
      {"ReduceL2", {18, reduce}},
      {"ReduceLogSum", {18, reduce}},
      {"ReduceLogSumExp", {18, reduce}},
      {"ReduceMax", {20, reduce}},
      {"ReduceMean", {18, reduce}},
      {"ReduceMin", {20, reduce}},
      {"ReduceProd", {18, reduce}},
      {"ReduceSumSquare", {18, reduce}},
      {"Relu", {14, relu}},
      {"Reshape", {14, reshape}},
      {"Resize", {19, resize}},
      {"RotaryEmbedding", {23, decompose_rotary_embedding}},
      {"ScatterElements", {18, scatter}},
      {"ScatterND", {18, scatter}},
      {"Shape", {15, shape}},
      {"Split", {kAlways, split}},  // the graph never says num_outputs
      {"Sub", {14, arithmetic}},
      {"Trilu", {14, decompose_trilu}},
  };
  return table;
}

}  // namespace

void downgrade_node(OnnxScope& scope, OnnxNode node) {
  if (node.domain.empty()) {
    const auto form = forms().find(node.op);
    if (form != forms().end() && scope.opset() < form->second.since)
      return form->second.older(scope, std::move(node));
  }
  scope.emit_as_is(std::move(node));
}

}  // namespace packlight::deploy
