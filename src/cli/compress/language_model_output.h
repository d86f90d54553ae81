#pragma once

#include <string>
#include <string_view>

#include "import/import.h"

namespace packlight::cli {

// Before hours of work, not after them. Errors: Unsupported for a package or a single tensor file, by
// the output's name; those of the writers for a place that cannot be written.
void check_language_model_output(const std::string& output, std::string_view verb);
// GGUF when the output's name says so, else a Hugging Face folder.
void write_language_model(const import::LanguageModel& model, const std::string& output);

}  // namespace packlight::cli
