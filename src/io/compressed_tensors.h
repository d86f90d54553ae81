#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "codec/encoded_tensor.h"
#include "io/hf_folder.h"
#include "io/module_pattern.h"

namespace packlight::io {

// How the linear modules of one config group are stored.
struct CompressedScheme {
  std::vector<ModulePattern> targets;  // "Linear" stands for every module that no other one matches
  int bits = 4;
  bool symmetric = true;
  int64_t group_size = 0;         // 0: one scale a row, or one for the whole tensor
  bool int8_activations = false;  // inputs are rounded to symmetric INT8 as they come
};

// The compressed linear modules of a Hugging Face folder whose config.json says quant_method
// "compressed-tensors" (https://github.com/vllm-project/compressed-tensors): formats pack-quantized
// (INT4 and INT8 codes in 32-bit words) and int-quantized (INT8 codes), weights scaled by group,
// row or tensor.
class CompressedTensors {
 public:
  // Whether the folder has a quantization_config. Errors: Unsupported for another quant_method
  // (names it).
  static bool present(const HfFolder& folder);

  // `folder` must outlive the object. Errors: Corrupt; Unsupported for a format, number of bits,
  // strategy or kind of activation quantization that is not read, or a target that is no pattern.
  explicit CompressedTensors(const HfFolder& folder);

  // Whether tensor NAME.weight is stored compressed; dense modules of the same folder are not.
  bool contains(std::string_view module) const;
  // The names of the tensors that make up a compressed module.
  std::vector<std::string> tensor_names(std::string_view module) const;
  // Bits of a code: 4 or 8.
  int bits(std::string_view module) const { return scheme(module).bits; }
  // The weight: tiles with the file's codes and scales, bit for bit. Dense F32 (q - zero) * scale
  // where tiles cannot hold it: scales that are no F16 numbers, asymmetric INT8, a code of -128,
  // groups that are no multiple of 32. Errors: Corrupt when the parts contradict each other;
  // Unsupported for reordered columns (g_idx).
  codec::EncodedTensor weight(std::string_view module) const;
  // Whether inputs of the module are rounded to INT8. Only dynamic symmetric rounding by token or
  // by groups of 32 columns is read; both are taken as the second, which is finer.
  bool int8_activations(std::string_view module) const;

 private:
  const CompressedScheme& scheme(std::string_view module) const;
  const TensorRecord* part(std::string_view module, std::string_view suffix) const;

  const HfFolder& folder_;
  std::string origin_;
  std::vector<CompressedScheme> schemes_;
};

}  // namespace packlight::io
