#pragma once

#include "deploy/onnx_scope.h"

namespace packlight::deploy {

// Emits a node of opset 23 in the form that the scope's opset has: one line an operator in
// onnx_downgrade.cpp says since when the form is right, and how it is made older. Errors:
// Unsupported naming node, operator and the lowest opset that can express it.
void downgrade_node(OnnxScope& scope, OnnxNode node);

// The nodes that take the place of one.
class OnnxParts {
 public:
  OnnxParts(OnnxScope& scope, const OnnxNode& node) : scope_(scope), node_(node) {}
  // Adds a node with one output, and returns its name: `output`, or one of its own when empty.
  std::string make(const std::string& op, std::vector<std::string> inputs,
                   std::map<std::string, graph::Attribute> attributes = {},
                   std::string output = "");
  OnnxScope& scope() { return scope_; }

 private:
  OnnxScope& scope_;
  const OnnxNode& node_;
  int count_ = 0;
};

// Column minus row of every element of the last two dimensions of `value`: [rows, columns] I64.
std::string column_minus_row(OnnxParts& parts, const std::string& value);

// Whole operators from older ones.
void decompose_cast_like(OnnxScope& scope, OnnxNode node);
void decompose_gelu(OnnxScope& scope, OnnxNode node);
void decompose_group_normalization(OnnxScope& scope, OnnxNode node);
void decompose_hard_swish(OnnxScope& scope, OnnxNode node);
void decompose_mish(OnnxScope& scope, OnnxNode node);
void decompose_layer_normalization(OnnxScope& scope, OnnxNode node);
void decompose_rms_normalization(OnnxScope& scope, OnnxNode node);
void decompose_trilu(OnnxScope& scope, OnnxNode node);
void decompose_rotary_embedding(OnnxScope& scope, OnnxNode node);
void decompose_attention(OnnxScope& scope, OnnxNode node);

}  // namespace packlight::deploy
