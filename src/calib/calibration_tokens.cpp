#include "calib/calibration_tokens.h"

#include <algorithm>

#include "base/fail.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mapped_file.h"

namespace packlight::calib {
namespace {

constexpr size_t kLargestText = 32 << 20;
constexpr std::byte kBlobFormat{1};

void start_with_bos(CalibrationTokens& tokens, const text::Tokenizer& tokenizer) {
  if (!tokenizer.adds_bos() || tokenizer.bos() < 0) return;
  for (size_t i = 0; i < tokens.ids.size(); i += tokens.window) tokens.ids[i] = tokenizer.bos();
}

}  // namespace

TextTokens tokens_from_text(const std::filesystem::path& path, const text::Tokenizer& tokenizer, int64_t count,
                            int64_t window) {
  if (count < 1 || window < 2) {
    fail(ErrorCode::kInvalidArgument, "[calib] {} tokens in windows of {}: at least 1 token and windows of 2 are needed",
         count, window);
  }
  const auto file = base::MappedFile::open(path);
  const auto bytes = file->bytes();
  base::check_is_text({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
  TextTokens out;
  out.tokens.window = window;
  out.hash = base::hex64(base::hash64(bytes));
  size_t size = bytes.size();
  if (size > kLargestText) {  // cut where a character starts
    size = kLargestText;
    while (size > 0 && (static_cast<uint8_t>(bytes[size]) & 0xc0) == 0x80) --size;
  }
  const auto ids = tokenizer.encode({reinterpret_cast<const char*>(bytes.data()), size}, {.add_special = false});
  out.tokens_in_text = static_cast<int64_t>(ids.size());
  if (ids.empty()) fail(ErrorCode::kInvalidArgument, "[calib] '{}': the text has no tokens", path.string());

  auto& chosen = out.tokens.ids;
  if (out.tokens_in_text <= count) {
    chosen = ids;
  } else {
    // Evenly spaced starts from the first token to the last place a whole window fits.
    const int64_t windows = (count + window - 1) / window;
    const int64_t room = std::max<int64_t>(0, out.tokens_in_text - window);
    for (int64_t w = 0; w < windows; ++w) {
      const int64_t start = windows == 1 ? 0 : room * w / (windows - 1);
      const int64_t length = std::min({window, count - w * window, out.tokens_in_text - start});
      chosen.insert(chosen.end(), ids.begin() + start, ids.begin() + start + length);
    }
  }
  start_with_bos(out.tokens, tokenizer);
  return out;
}

std::vector<std::byte> tokens_to_blob(const CalibrationTokens& tokens) {
  std::vector<std::byte> blob{kBlobFormat};
  for (int shift = 0; shift < 32; shift += 8) blob.push_back(static_cast<std::byte>(tokens.window >> shift));
  for (const text::TokenId id : tokens.ids) {
    auto rest = static_cast<uint32_t>(id);
    for (; rest >= 0x80; rest >>= 7) blob.push_back(static_cast<std::byte>(rest | 0x80));
    blob.push_back(static_cast<std::byte>(rest));
  }
  return blob;
}

CalibrationTokens tokens_from_blob(std::span<const std::byte> blob, int64_t vocab_size, std::string_view origin) {
  constexpr size_t kHeader = 5;
  if (blob.size() < kHeader || blob[0] != kBlobFormat) {
    fail(ErrorCode::kCorrupt, "[calib] '{}': calibration tokens of an unknown format", origin);
  }
  CalibrationTokens out;
  uint32_t window = 0;
  for (int i = 0; i < 4; ++i) window |= static_cast<uint32_t>(blob[1 + i]) << (8 * i);
  if (window < 2 || window > (1u << 24)) {
    fail(ErrorCode::kCorrupt, "[calib] '{}': calibration windows of {} tokens", origin, window);
  }
  out.window = window;
  uint64_t id = 0;
  int shift = 0;
  for (const std::byte byte : blob.subspan(kHeader)) {
    id |= static_cast<uint64_t>(byte & std::byte{0x7f}) << shift;
    shift += 7;
    const bool more = (byte & std::byte{0x80}) != std::byte{0};
    if (id >= static_cast<uint64_t>(vocab_size) || shift > 28 + 7) {
      fail(ErrorCode::kCorrupt, "[calib] '{}': calibration token {} is outside the vocabulary of {}", origin, id, vocab_size);
    }
    if (more) continue;
    out.ids.push_back(static_cast<text::TokenId>(id));
    id = 0;
    shift = 0;
  }
  if (shift != 0 || out.ids.empty()) {
    fail(ErrorCode::kCorrupt, "[calib] '{}': calibration tokens are {}", origin, shift != 0 ? "cut short" : "none");
  }
  return out;
}

}  // namespace packlight::calib
