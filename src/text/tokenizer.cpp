#include "text/tokenizer.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/fail.h"
#include "text/byte_level.h"
#include "text/normalizer.h"
#include "text/tokenizer_impl.h"
#include "text/utf8.h"

namespace packlight::text {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";

std::string plain_spelling(const Blob&, std::string_view piece) { return std::string(piece); }

void append_unescaped(std::string_view piece, std::string* out) {
  for (size_t i = 0; i < piece.size();) {
    if (piece.substr(i).starts_with(kSpaceMark)) {
      *out += ' ';
      i += kSpaceMark.size();
    } else {
      *out += piece[i++];
    }
  }
}

// The byte that "<0x0A>" stands for, or -1.
int spelt_byte(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece.back() != '>') return -1;
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
  };
  const int high = digit(piece[3]), low = digit(piece[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

// Where text may be cut because no merge crosses: before each mark that follows another character.
size_t next_cut(std::string_view text, size_t from) {
  size_t i = from;
  while (text.substr(i).starts_with(kSpaceMark)) i += kSpaceMark.size();
  return std::min(text.find(kSpaceMark, i), text.size());
}

}  // namespace

Tokenizer::Impl::Impl(std::span<const std::byte> blob_bytes, std::shared_ptr<const void> blob_owner,
                      std::string_view origin)
    : owner(std::move(blob_owner)),
      bytes(blob_bytes),
      blob(Blob::open(blob_bytes, origin)),
      byte_tables(blob),
      pre_tokenizer(blob.splits()),
      raw_added(blob, false, plain_spelling),
      normalized_added(blob, true, normalize) {}

Tokenizer open_tokenizer(const TokenizerData& data) {
  auto bytes = std::make_shared<const std::vector<std::byte>>(write_blob(data));
  return Tokenizer(std::make_shared<const Tokenizer::Impl>(std::span<const std::byte>(*bytes),
                                                           bytes, data.origin));
}

Tokenizer Tokenizer::from_blob(std::span<const std::byte> blob, std::shared_ptr<const void> owner,
                               std::string_view origin) {
  if (reinterpret_cast<uintptr_t>(blob.data()) % alignof(uint32_t) == 0) {
    return Tokenizer(std::make_shared<const Impl>(blob, std::move(owner), origin));
  }
  auto copy = std::make_shared<const std::vector<std::byte>>(blob.begin(), blob.end());
  return Tokenizer(std::make_shared<const Impl>(std::span<const std::byte>(*copy), copy, origin));
}

std::vector<std::byte> Tokenizer::to_blob() const {
  return {impl_->bytes.begin(), impl_->bytes.end()};
}

void Tokenizer::Impl::encode_words(std::string_view text, bool at_start, WordEncoder* encoder,
                                   std::vector<TokenId>* out) const {
  std::string changed;
  if (finish_spaces(blob, text, at_start, &changed)) text = changed;
  if (!blob.splits().empty()) {
    for (const std::string_view word : pre_tokenizer.split(text)) encoder->encode(word, out);
  } else if (blob.flag(kEscapeSpaces) && blob.flag(kCutsAtSpaces)) {
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = next_cut(text, begin);
      encoder->encode(text.substr(begin, end - begin), out);
      begin = end;
    }
  } else if (!text.empty()) {
    encoder->encode(text, out);
  }
}

void Tokenizer::Impl::encode_text(std::string_view text, bool at_start, bool parse_special,
                                  WordEncoder* encoder, std::vector<TokenId>* out) const {
  const std::string normalized = normalize(blob, text);
  for (const Fragment& fragment : normalized_added.split(normalized, parse_special)) {
    if (fragment.id >= 0) {
      out->push_back(fragment.id);
    } else {
      encode_words(std::string_view(normalized).substr(fragment.begin, fragment.size),
                   at_start && fragment.begin == 0, encoder, out);
    }
  }
}

std::vector<TokenId> Tokenizer::encode(std::string_view utf8, EncodeOptions options) const {
  const Blob& blob = impl_->blob;
  if (utf8.size() > INT32_MAX / 4) {
    fail(ErrorCode::kInvalidArgument, "[text] {} bytes of text at once, at most {}", utf8.size(),
         INT32_MAX / 4);
  }
  std::vector<TokenId> ids;
  if (options.add_special) ids.assign(blob.prefix_ids().begin(), blob.prefix_ids().end());
  WordEncoder encoder(blob, impl_->byte_tables);
  std::string sanitised;
  // SentencePiece spells broken bytes with byte tokens, unless a regular expression has to read
  // them.
  const bool needs_utf8 = blob.flag(kByteLevel) || !blob.splits().empty() || blob.flag(kCompose);
  if (needs_utf8 && sanitise_utf8(utf8, &sanitised)) utf8 = sanitised;
  for (const Fragment& fragment : impl_->raw_added.split(utf8, options.parse_special)) {
    if (fragment.id >= 0) {
      ids.push_back(fragment.id);
    } else {
      impl_->encode_text(utf8.substr(fragment.begin, fragment.size), fragment.begin == 0,
                         options.parse_special, &encoder, &ids);
    }
  }
  if (options.add_special)
    ids.insert(ids.end(), blob.suffix_ids().begin(), blob.suffix_ids().end());
  return ids;
}

std::string_view Tokenizer::token_bytes(TokenId id, std::string* buffer, bool with_special) const {
  const std::string_view text = piece(id);
  buffer->clear();
  switch (kind(id)) {
    case TokenKind::kControl:
    case TokenKind::kUnknown:
      return with_special ? text : std::string_view();
    case TokenKind::kUserDefined:
      return text;
    case TokenKind::kUnused:
      return {};
    case TokenKind::kByte:
      if (const int byte = spelt_byte(text); byte >= 0) {
        *buffer = static_cast<char>(byte);
        return *buffer;
      }
      return text;
    case TokenKind::kNormal:
      break;
  }
  if (impl_->blob.flag(kByteLevel))
    return append_spelt_bytes(text, buffer) ? std::string_view(*buffer) : text;
  append_unescaped(text, buffer);
  return *buffer;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool with_special) const {
  std::string bytes, buffer;
  bool strip = strips_leading_space();
  for (const TokenId id : ids) {
    std::string_view part = token_bytes(id, &buffer, with_special);
    if (strip && !part.empty()) {
      if (part.front() == ' ') part.remove_prefix(1);
      strip = false;
    }
    bytes += part;
  }
  return replace_ill_formed(bytes);
}

bool Tokenizer::strips_leading_space() const {
  return !impl_->blob.flag(kByteLevel) && impl_->blob.space_prefix() != SpacePrefix::kNone;
}

int64_t Tokenizer::vocab_size() const { return impl_->blob.token_count(); }
TokenId Tokenizer::bos() const { return impl_->blob.bos(); }
TokenId Tokenizer::eos() const { return impl_->blob.eos(); }
TokenId Tokenizer::unk() const { return impl_->blob.unk(); }
bool Tokenizer::adds_bos() const { return !impl_->blob.prefix_ids().empty(); }

TokenKind Tokenizer::kind(TokenId id) const {
  if (id < 0 || id >= vocab_size()) {
    fail(ErrorCode::kInvalidArgument, "[text] token {} is outside the vocabulary of {}", id,
         vocab_size());
  }
  return impl_->blob.kind(id);
}

std::string_view Tokenizer::piece(TokenId id) const {
  if (id < 0 || id >= vocab_size()) {
    fail(ErrorCode::kInvalidArgument, "[text] token {} is outside the vocabulary of {}", id,
         vocab_size());
  }
  return impl_->blob.piece(id);
}

TokenId Tokenizer::find(std::string_view piece) const { return impl_->blob.find(piece); }
std::string_view Tokenizer::chat_template() const { return impl_->blob.chat_template(); }

std::vector<TokenId> Tokenizer::end_tokens() const {
  constexpr std::array<std::string_view, 10> kEnds = {
      "<|im_end|>", "<|endoftext|>",   "<|eot_id|>",    "<|eom_id|>", "</s>",
      "<|end|>",    "<|end_of_text|>", "<end_of_turn>", "<EOT>",      "<eos>"};
  std::vector<TokenId> ids;
  if (eos() >= 0) ids.push_back(eos());
  for (const std::string_view end : kEnds) {
    const TokenId id = find(end);
    if (id >= 0 && kind(id) == TokenKind::kControl) ids.push_back(id);
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

std::string StreamDecoder::push(TokenId id) {
  std::string buffer;
  std::string_view part = tokenizer_->token_bytes(id, &buffer);
  if (first_ && !part.empty()) {
    if (tokenizer_->strips_leading_space() && part.front() == ' ') part.remove_prefix(1);
    first_ = false;
  }
  pending_ += part;
  // Only the last three bytes can be a character that is still growing.
  size_t complete = pending_.size();
  for (size_t back = 1; back <= std::min<size_t>(3, pending_.size()); ++back) {
    const std::string_view tail = std::string_view(pending_).substr(pending_.size() - back);
    if (incomplete_utf8(tail) == static_cast<int>(back)) complete = pending_.size() - back;
  }
  std::string out = replace_ill_formed(std::string_view(pending_).substr(0, complete));
  pending_.erase(0, complete);
  return out;
}

std::string StreamDecoder::finish() {
  std::string out = replace_ill_formed(pending_);
  pending_.clear();
  return out;
}

}  // namespace packlight::text
