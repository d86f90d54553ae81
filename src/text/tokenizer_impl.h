#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "text/added_tokens.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer.h"
#include "text/tokenizer_blob.h"
#include "text/word_encoder.h"

namespace packlight::text {

// A tokenizer at work: the blob, and what is built from it once (patterns compiled, bytes looked
// up).
struct Tokenizer::Impl {
  // `bytes` begins at a multiple of 4 and lives as long as `owner`; errors name `origin`.
  Impl(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
       std::string_view origin);

  std::shared_ptr<const void> owner;
  std::span<const std::byte> bytes;
  Blob blob;
  ByteTables byte_tables;
  PreTokenizer pre_tokenizer;
  AddedTokens raw_added, normalized_added;

  // Text between added tokens -> ids. `at_start`: it begins the whole input.
  void encode_text(std::string_view text, bool at_start, bool parse_special, WordEncoder* encoder,
                   std::vector<TokenId>* out) const;
  void encode_words(std::string_view normalized, bool at_start, WordEncoder* encoder,
                    std::vector<TokenId>* out) const;
};

// The readers' last step: data -> blob -> tokenizer.
Tokenizer open_tokenizer(const TokenizerData& data);

}  // namespace packlight::text
