#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "codec/quantized_matrix.h"
#include "io/safetensors.h"

namespace packlight::deploy {

// How one linear module is stored in compressed-tensors form (https://github.com/vllm-project/compressed-tensors,
// config.json "quantization_config"). Modules of equal form share a config group.
struct CompressedForm {
  int bits = 4;
  bool symmetric = true;
  int64_t group_size = 0;  // divides in_features; 0: one scale a row ("channel")
  bool int8_activations = false;
  bool packed = true;      // pack-quantized; false: int-quantized

  auto operator<=>(const CompressedForm&) const = default;
};

// The form of a matrix: the group becomes the largest that divides both it and the row, since compressed-tensors knows no shorter
// last group. Only one-scale-a-row INT8 with INT8 activations is int-quantized; all else is pack-quantized.
CompressedForm compressed_form(int bits, bool symmetric, int64_t group_size, int64_t cols, bool int8_activations);

// One tensor of a module: what follows the module's name, dtype, shape.
struct CompressedPart {
  std::string suffix;  // "weight_packed", "weight_scale", ...
  codec::DType dtype;
  std::vector<int64_t> shape;
};
// The tensors that a module [rows, cols] of this form has:
//   pack-quantized: weight_packed I32 [rows, ceil(cols * bits / 32)], weight_scale F16 [rows, groups],
//                   weight_shape I64 [2], weight_zero_point I32 [ceil(rows * bits / 32), groups] when asymmetric
//   int-quantized:  weight I8 [rows, cols], weight_scale F16 [rows, 1]
std::vector<CompressedPart> compressed_parts(const CompressedForm& form, int64_t rows, int64_t cols);

// The bytes of part `part` of them. Codes and zero points are stored with 2^(bits-1) added when packed, little end first: row
// elements of weight_packed lie along the columns, of weight_zero_point along the rows. Scales of a split group are repeated.
std::vector<std::byte> compress(const codec::QuantizedMatrix& matrix, const CompressedForm& form, size_t part);

// config.json "quantization_config". forms: module name -> form; `ignored`: linear modules that are dense.
Json quantization_config(const std::map<std::string, CompressedForm>& forms, const std::vector<std::string>& ignored);

}  // namespace packlight::deploy
