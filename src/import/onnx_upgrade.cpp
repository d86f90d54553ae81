// Operators of older opsets as what they are at opset 23
// (https://github.com/onnx/onnx/blob/main/docs/Changelog.md): each function below knows one change
// and says at which opset it came.
#include <ATen/ATen.h>

#include <limits>
#include <unordered_map>

#include "graph/weight.h"
#include "import/onnx_builder.h"

namespace packlight::import {
namespace {

constexpr int64_t kFloat = onnx::TensorProto::FLOAT;

int64_t take_integer(OnnxNode& node, const char* name, int64_t fallback) {
  const auto it = node.attributes.find(name);
  if (it == node.attributes.end()) return fallback;
  const auto* value = std::get_if<int64_t>(&it->second);
  const int64_t result = value != nullptr ? *value : fallback;
  node.attributes.erase(it);
  return result;
}

std::optional<std::vector<int64_t>> take_integers(OnnxNode& node, const char* name) {
  const auto it = node.attributes.find(name);
  if (it == node.attributes.end()) return std::nullopt;
  std::optional<std::vector<int64_t>> result;
  if (const auto* values = std::get_if<std::vector<int64_t>>(&it->second)) result = *values;
  node.attributes.erase(it);
  return result;
}

std::optional<double> take_number(OnnxNode& node, const char* name) {
  const auto it = node.attributes.find(name);
  if (it == node.attributes.end()) return std::nullopt;
  std::optional<double> result;
  if (const auto* value = std::get_if<double>(&it->second)) result = *value;
  node.attributes.erase(it);
  return result;
}

// An attribute of old, an input since: put at `position`.
void set_input(OnnxNode& node, size_t position, std::string name) {
  if (node.inputs.size() <= position) node.inputs.resize(position + 1);
  node.inputs[position] = std::move(name);
}

void attribute_to_input(OnnxBuilder& builder, OnnxNode& node, const char* attribute,
                        size_t position) {
  if (const auto values = take_integers(node, attribute))
    set_input(node, position, builder.add_integers(node.name + "." + attribute, *values));
}

// The name of an input that the operator cannot do without: its rule, which says so of others, sees
// only what comes of it.
const std::string& needed(const OnnxBuilder& builder, const OnnxNode& node, size_t input) {
  if (input >= node.inputs.size() || node.inputs[input].empty())
    builder.refuse(ErrorCode::kCorrupt, node, "input {} is missing", input);
  return node.inputs[input];
}

using Upgrade = void (*)(OnnxBuilder&, OnnxNode);

// Opset 13 for ReduceSum, 18 for the others; Squeeze, Unsqueeze and Split 13.
void axes_input(OnnxBuilder& builder, OnnxNode node) {
  attribute_to_input(builder, node, "axes", 1);
  builder.emit(std::move(node));
}

void split_input(OnnxBuilder& builder, OnnxNode node) {
  attribute_to_input(builder, node, "split", 1);
  builder.emit(std::move(node));
}

// Opset 11: the bounds are inputs.
void clip_inputs(OnnxBuilder& builder, OnnxNode node) {
  const auto low = take_number(node, "min"), high = take_number(node, "max");
  if (low) set_input(node, 1, builder.add_number(node.name + ".min", *low));
  if (high) set_input(node, 2, builder.add_number(node.name + ".max", *high));
  builder.emit(std::move(node));
}

// Opset 10: everything is an input.
void slice_inputs(OnnxBuilder& builder, OnnxNode node) {
  attribute_to_input(builder, node, "starts", 1);
  attribute_to_input(builder, node, "ends", 2);
  attribute_to_input(builder, node, "axes", 3);
  builder.emit(std::move(node));
}

// Opset 11: pads and value are inputs.
void pad_inputs(OnnxBuilder& builder, OnnxNode node) {
  attribute_to_input(builder, node, "pads", 1);
  if (const auto value = take_number(node, "value"))
    set_input(node, 2, builder.add_number(node.name + ".value", *value));
  builder.emit(std::move(node));
}

// Opset 10: k is an input.
void top_k_input(OnnxBuilder& builder, OnnxNode node) {
  if (node.attributes.count("k") != 0)
    set_input(node, 1, builder.add_integers(node.name + ".k", {take_integer(node, "k", 1)}));
  builder.emit(std::move(node));
}

// Opset 12: ratio is an input, training another one (before, nothing said so: inference).
void dropout_inputs(OnnxBuilder& builder, OnnxNode node) {
  if (const auto ratio = take_number(node, "ratio"))
    set_input(node, 1, builder.add_number(node.name + ".ratio", *ratio));
  builder.emit(std::move(node));
}

// Opset 13: softmax over one axis. Before, the tensor was taken as a matrix whose columns begin at
// `axis`.
void softmax_axis(OnnxBuilder& builder, OnnxNode node) {
  if (node.outputs.empty()) builder.refuse(ErrorCode::kCorrupt, node, "it has no output");
  const int64_t axis = take_integer(node, "axis", 1);
  const auto shape = builder.graph().value(builder.resolve(needed(builder, node, 0), node.name)).shape;
  const bool last = axis == -1 || (shape && axis == static_cast<int64_t>(shape->size()) - 1);
  if (last) {
    node.attributes["axis"] = int64_t{-1};
    return builder.emit(std::move(node));
  }
  const std::string input = node.inputs[0], output = node.outputs[0];
  const std::string matrix = builder.fresh(output + ".matrix"),
                    result = builder.fresh(output + ".softmax"),
                    dims = builder.fresh(output + ".shape");
  builder.emit({node.name + ".shape", "Shape", "", {input}, {dims}, {}, 0});
  builder.emit({node.name + ".flatten", "Flatten", "", {input}, {matrix}, {{"axis", axis}}, 0});
  builder.emit({node.name, node.op, "", {matrix}, {result}, {{"axis", int64_t{-1}}}, 0});
  builder.emit({node.name + ".reshape", "Reshape", "", {result, dims}, {output}, {}, 0});
}

// Opset 14: training_mode; before, more than one output meant training. Opset 9: no `spatial`.
void batch_normalization(OnnxBuilder& builder, OnnxNode node) {
  if (take_integer(node, "spatial", 1) == 0)
    builder.refuse(ErrorCode::kUnsupported, node, "spatial = 0 is not supported");
  if (node.outputs.size() > 1 && builder.opset() < 14) {
    builder.notice(
        fmt::format("node '{}' (BatchNormalization): outputs of training are left out", node.name));
    node.outputs.resize(1);
  }
  builder.emit(std::move(node));
}

// What became of Upsample, and of Resize before opset 11: pixels are counted from the corner.
void resize_from_corner(OnnxBuilder& builder, OnnxNode node) {
  if (const auto it = node.attributes.find("scales");
      it != node.attributes.end()) {  // opset 7 to 8
    const auto* scales = std::get_if<std::vector<double>>(&it->second);
    if (scales == nullptr)
      builder.refuse(ErrorCode::kCorrupt, node, "scales are no list of numbers");
    const std::string name = builder.fresh(node.name + ".scales");
    OnnxNode constant{
        name, "Constant", "", {}, {name}, {{"value", at::tensor(*scales).to(at::kFloat)}}, 0};
    builder.add_constant(constant);
    node.attributes.erase(it);
    set_input(node, 1, name);
  }
  const std::string scales = needed(builder, node, 1);
  node.inputs = {node.inputs[0], "", scales};
  const bool upsample = node.op == "Upsample";
  node.op = "Resize";
  node.attributes["coordinate_transformation_mode"] = std::string("asymmetric");
  // Opset 10 rounds up where it makes a tensor smaller and down where larger (what ONNX Runtime and
  // the operator's examples do).
  bool smaller = false;
  const auto& weight = builder.graph().value(builder.resolve(scales, node.name)).weight;
  if (!upsample && weight && std::holds_alternative<at::Tensor>(*weight)) {
    const at::Tensor values = std::get<at::Tensor>(*weight).to(at::kFloat);
    smaller = values.numel() > 0 && values.min().item<float>() < 1;
  }
  node.attributes["nearest_mode"] = std::string(smaller ? "ceil" : "floor");
  if (const auto mode = node.attributes.find("mode"); mode != node.attributes.end()) {
    if (const auto* text = std::get_if<std::string>(&mode->second);
        text != nullptr && *text == "bilinear")
      mode->second = std::string("linear");
  }
  builder.emit(std::move(node));
}

// Opset 11 renamed it.
void scatter(OnnxBuilder& builder, OnnxNode node) {
  node.op = "ScatterElements";
  builder.emit(std::move(node));
}

// Opset 21: scale and bias by channel; before, by group: marked, and spread by the operator.
void group_normalization(OnnxBuilder& builder, OnnxNode node) {
  node.attributes["scale_by_group"] = int64_t{1};
  builder.emit(std::move(node));
}

// Casts to other float types are what the graph's outputs do; inside, arithmetic is in F32.
void cast(OnnxBuilder& builder, OnnxNode node) {
  const auto it = node.attributes.find("to");
  const auto* to = it == node.attributes.end() ? nullptr : std::get_if<int64_t>(&it->second);
  if (to == nullptr) builder.refuse(ErrorCode::kCorrupt, node, "attribute 'to' is missing");
  const int64_t type = *to;
  const bool other_float = type == onnx::TensorProto::FLOAT16 ||
                           type == onnx::TensorProto::BFLOAT16 || type == onnx::TensorProto::DOUBLE;
  if (other_float) {
    it->second = kFloat;
  } else {
    try {
      graph::to_scalar_type(graph::from_onnx_type(type));
    } catch (const Error&) {
      builder.refuse(ErrorCode::kUnsupported, node, "elements of type {} are not supported",
                     onnx_file::data_type_name(static_cast<int>(type)));
    }
  }
  builder.emit(std::move(node));
}

// The element that fills the tensor takes part in F32.
void constant_of_shape(OnnxBuilder& builder, OnnxNode node) {
  if (const auto it = node.attributes.find("value"); it != node.attributes.end()) {
    if (auto* tensor = std::get_if<at::Tensor>(&it->second);
        tensor != nullptr && at::isFloatingType(tensor->scalar_type()))
      *tensor = tensor->to(at::kFloat);
  }
  builder.emit(std::move(node));
}

struct Change {
  int64_t since;  // the opset at which the operator became what the graph has; 0: what is done at
                  // any opset
  Upgrade upgrade;
};

const std::unordered_map<std::string_view, Change>& changes() {
  static const std::unordered_map<std::string_view, Change> table = {
      {"BatchNormalization", {0, batch_normalization}},
      {"Cast", {0, cast}},
      {"Clip", {11, clip_inputs}},
      {"ConstantOfShape", {0, constant_of_shape}},
      {"Dropout", {12, dropout_inputs}},
      {"GroupNormalization", {21, group_normalization}},
      {"LogSoftmax", {13, softmax_axis}},
      {"Pad", {11, pad_inputs}},
      {"ReduceL1", {18, axes_input}},
      {"ReduceL2", {18, axes_input}},
      {"ReduceLogSum", {18, axes_input}},
      {"ReduceLogSumExp", {18, axes_input}},
      {"ReduceMax", {18, axes_input}},
      {"ReduceMean", {18, axes_input}},
      {"ReduceMin", {18, axes_input}},
      {"ReduceProd", {18, axes_input}},
      {"ReduceSum", {13, axes_input}},
      {"ReduceSumSquare", {18, axes_input}},
      {"Resize", {11, resize_from_corner}},
      {"Scatter", {0, scatter}},
      {"Slice", {10, slice_inputs}},
      {"Softmax", {13, softmax_axis}},
      {"Split", {13, split_input}},
      {"Squeeze", {13, axes_input}},
      {"TopK", {10, top_k_input}},
      {"Unsqueeze", {13, axes_input}},
      {"Upsample", {0, resize_from_corner}},
  };
  return table;
}

}  // namespace

void upgrade_node(OnnxBuilder& builder, OnnxNode node) {
  if (node.domain.empty()) {
    const auto change = changes().find(node.op);
    if (change != changes().end() &&
        (change->second.since == 0 || builder.opset() < change->second.since))
      return change->second.upgrade(builder, std::move(node));
  }
  builder.emit(std::move(node));
}

}  // namespace packlight::import
