#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>

#include "base/json.h"
#include "import/import.h"
#include "io/package.h"

namespace packlight::deploy {

// Writes a package (docs/formats/package.md) of a model whose matrices are tiles in `formats`, with its tokenizer. `recipe` and
// `calibration_tokens` (may be empty) are kept for `verify --against`. Vectors become F32 (exact from F16 and BF16).
// Errors: InvalidArgument for a matrix that is no tile or differs from its format; Unsupported for a model without tokenizer;
// Io. An earlier file at `path` is replaced only by a complete one.
void write_package(const import::LanguageModel& model, const std::map<std::string, io::WeightFormat>& formats,
                   const Json& recipe, std::span<const std::byte> calibration_tokens, const std::filesystem::path& path);

}  // namespace packlight::deploy
