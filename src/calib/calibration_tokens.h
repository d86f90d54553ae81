#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace packlight::calib {

// Token ids in windows that follow each other: ids [i * window, (i + 1) * window) see each other and nothing else; the last
// window may be shorter.
struct CalibrationTokens {
  std::vector<text::TokenId> ids;
  int64_t window = 512;
};

struct TextTokens {
  CalibrationTokens tokens;
  std::string hash;            // XXH3 of the whole file, hexadecimal
  int64_t tokens_in_text = 0;  // all that the text has; fewer than asked for is no error
};

// At most `count` tokens of a UTF-8 text file: whole windows at even distances over the text, or the whole text when it has no
// more than that. Of a longer file the first 32 MB are read. Each window starts with BOS where the model asks for it.
// Errors: NotFound, Io; InvalidArgument for a text with no tokens, count < 1, window < 2.
TextTokens tokens_from_text(const std::filesystem::path& path, const text::Tokenizer& tokenizer, int64_t count,
                            int64_t window);

// The ids as bytes, to keep in a package: format byte 1, window as U32, then each id as an unsigned LEB128.
std::vector<std::byte> tokens_to_blob(const CalibrationTokens& tokens);
// Errors: Corrupt naming `origin` for another format, a cut id, an id outside [0, vocab_size).
CalibrationTokens tokens_from_blob(std::span<const std::byte> blob, int64_t vocab_size, std::string_view origin);

}  // namespace packlight::calib
