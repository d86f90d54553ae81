#include "text/normalizer.h"

#include "text/nfc.h"

namespace packlight::text {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";

std::string escape_spaces(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 2);
  for (const char c : text) {
    if (c == ' ') {
      out += kSpaceMark;
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

std::string normalize(const Blob& blob, std::string_view text) {
  std::string out(text);
  if (blob.flag(kCompose)) out = compose_nfc(out);
  if (blob.space_prefix() == SpacePrefix::kAlways && !out.empty()) out.insert(0, 1, ' ');
  return blob.flag(kEscapeSpaces) && blob.flag(kNormalizerEscapes) ? escape_spaces(out) : out;
}

bool finish_spaces(const Blob& blob, std::string_view text, bool at_start, std::string* out) {
  const bool prefixes = blob.space_prefix() == SpacePrefix::kUnlessSpace ||
                        (blob.space_prefix() == SpacePrefix::kFirstUnlessSpace && at_start);
  const bool escapes = blob.flag(kEscapeSpaces) && !blob.flag(kNormalizerEscapes);
  if (text.empty() || (!prefixes && !escapes)) return false;
  const std::string_view space = blob.flag(kEscapeSpaces) ? kSpaceMark : " ";
  *out = escapes ? escape_spaces(text) : std::string(text);
  if (prefixes && !out->starts_with(space)) out->insert(0, space);
  return true;
}

}  // namespace packlight::text
