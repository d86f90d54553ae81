#pragma once

#include <string_view>

#include "base/json.h"
#include "io/package.h"
#include "io/package_file.h"

namespace packlight::io {

// The metadata of a language model's package; docs/formats/package.md draws it.
Json package_metadata_to_json(const PackageMetadata& metadata);
// Errors: Corrupt, Unsupported (newer format_version, another kind), naming `origin`.
PackageMetadata package_metadata_from_json(const Json& json, std::string_view origin);

// The block of a weight is its TensorSpec's, of a blob its own name.
BlockOf decoder_blocks(const DecoderConfig& config);

}  // namespace packlight::io
