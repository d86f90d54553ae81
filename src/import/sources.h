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

// A record as a weight: a view of its bytes in their own dtype; GGML blocks stay encoded.
graph::Weight as_weight(const io::TensorRecord& record);

}  // namespace packlight::import
