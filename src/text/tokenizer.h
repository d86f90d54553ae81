#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/gguf.h"

namespace packlight::text {

using TokenId = int32_t;

enum class TokenKind : uint8_t { kNormal, kByte, kControl, kUserDefined, kUnknown, kUnused };

// Text <-> token ids: byte-level BPE (pre-tokenizers gpt-2, smollm, llama-bpe, qwen2) and
// SentencePiece BPE with byte fallback. Immutable after loading; any number of threads may use one.
class Tokenizer {
 public:
  // From a GGUF's tokenizer.* keys. Errors: Corrupt, Unsupported (naming the model or pre-tokenizer
  // and the known ones).
  static Tokenizer from_gguf(const io::GgufFile& file);
  // From tokenizer.json and (may be empty) tokenizer_config.json. Errors: as above; any normalizer,
  // pre-tokenizer or decoder that we would not reproduce exactly is Unsupported, by name.
  static Tokenizer from_hf(const std::filesystem::path& tokenizer_json,
                           const std::filesystem::path& tokenizer_config);
  // From the package's binary form, used in place: `blob` must stay mapped as long as `owner`
  // lives. Checked, so hostile bytes give Corrupt, never undefined behaviour. `origin` names the
  // file in errors.
  static Tokenizer from_blob(std::span<const std::byte> blob, std::shared_ptr<const void> owner,
                             std::string_view origin);
  std::vector<std::byte> to_blob() const;

  struct EncodeOptions {
    bool add_special = true;     // prepend BOS / append EOS where the model asks for it
    bool parse_special = false;  // "<|im_start|>" in the text becomes the control token
  };
  std::vector<TokenId> encode(std::string_view utf8, EncodeOptions options) const;
  std::vector<TokenId> encode(std::string_view utf8) const { return encode(utf8, EncodeOptions{}); }

  // The bytes of one token (control tokens give nothing unless `with_special`). Streams: see
  // StreamDecoder.
  std::string_view token_bytes(TokenId id, std::string* buffer, bool with_special = false) const;
  // Well-formed UTF-8: broken bytes become U+FFFD. A SentencePiece tokenizer's leading space is
  // taken off the first text, as tokenizers does; nothing else is "cleaned up".
  std::string decode(std::span<const TokenId> ids, bool with_special = false) const;
  bool strips_leading_space() const;

  int64_t vocab_size() const;
  TokenId bos() const;  // -1: none
  TokenId eos() const;
  TokenId unk() const;
  bool adds_bos() const;
  // eos() and every control token whose piece is a known end of a turn or text ("<|im_end|>",
  // "<|eot_id|>", "</s>", …), ascending.
  std::vector<TokenId> end_tokens() const;
  TokenKind kind(TokenId id) const;
  std::string_view piece(TokenId id) const;    // as stored in the vocabulary
  TokenId find(std::string_view piece) const;  // -1: none
  std::string_view chat_template() const;      // Jinja text from the file, or empty

  // The GGUF tokenizer.* keys and a tokenizer.json that give the same ids, for the writers. Errors:
  // Unsupported when the other format cannot hold this tokenizer. What they cannot say and nobody's
  // converter says either is left out: GGUF has no NFC, one space-prefix rule (before every text
  // between special tokens), and no case folding of U+017F in contractions. GGUF needs one token
  // per embedding row: with vocab_size above vocab_size(), unused tokens "[PAD<id>]" fill up.
  std::vector<std::pair<std::string, io::GgufValue>> to_gguf(int64_t vocab_size = 0) const;
  std::string to_tokenizer_json() const;
  std::string to_tokenizer_config_json() const;

  struct Impl;
  explicit Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

 private:
  std::shared_ptr<const Impl> impl_;
};

// Turns ids into text as they come; holds back bytes until they complete a UTF-8 character.
class StreamDecoder {
 public:
  // A text's leading space is taken off as decode() does, unless it `continues` another.
  explicit StreamDecoder(const Tokenizer& tokenizer, bool continues = false)
      : tokenizer_(&tokenizer), first_(!continues) {}
  std::string push(TokenId id);  // complete characters that are now known, maybe none
  std::string finish();          // what is left; broken bytes become U+FFFD

 private:
  const Tokenizer* tokenizer_;
  std::string pending_;
  bool first_;
};

}  // namespace packlight::text
