#pragma once

#include <string>
#include <string_view>

#include "text/tokenizer_data.h"

namespace packlight::text {

// The content of a tokenizer.json. Errors: as Tokenizer::from_hf.
TokenizerData read_tokenizer_json(std::string_view text, const std::string& origin);

}  // namespace packlight::text
