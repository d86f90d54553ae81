#pragma once

#include <string>
#include <string_view>

#include "text/tokenizer_blob.h"

namespace packlight::text {

// What happens to text before "normalized" added tokens are looked for in it: NFC, a space before
// it, spaces to U+2581.
std::string normalize(const Blob& blob, std::string_view text);

// What happens afterwards, before it is cut into words (Metaspace, ByteLevel's add_prefix_space).
// `at_start`: the text begins the whole input. Returns whether `out` was needed.
bool finish_spaces(const Blob& blob, std::string_view text, bool at_start, std::string* out);

}  // namespace packlight::text
