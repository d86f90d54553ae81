#pragma once

#include <filesystem>
#include <string>

#include "import/import.h"
#include "io/tensor_record.h"

namespace packlight::import {

// One function per kind of file; load_language_model() picks.
LanguageModel load_gguf(const std::filesystem::path& path);
LanguageModel load_hf_folder(const std::filesystem::path& path);
LanguageModel load_package(const std::filesystem::path& path);

// A record of this file as a weight: a view of its bytes in their own dtype; GGML blocks stay encoded.
// Errors: Unsupported for a dtype that is none of weights.
graph::Weight as_weight(const std::filesystem::path& path, const io::TensorRecord& record);

// A dense record of any type as a tensor: a view of its bytes, which it keeps alive. Nothing may
// write to it.
at::Tensor tensor_view(const io::TensorRecord& record);

// The LibTorch dtype of a dense dtype. Errors: Unsupported.
at::ScalarType scalar_type_of(codec::DType dtype);

// And back. Errors: Unsupported for a type that files do not have.
codec::DType dtype_of(at::ScalarType type);

// Marks the inputs of every linear node whose weight (by tensor name) wants 8-bit activations.
void mark_int8_inputs(graph::Graph& graph,
                      const std::function<bool(std::string_view tensor)>& wanted);

}  // namespace packlight::import
