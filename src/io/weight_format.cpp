#include <charconv>

#include "base/fail.h"
#include "io/package.h"

namespace packlight::io {
namespace {

using codec::DType;
using codec::Sparsity;

constexpr int64_t kLongestGroup = int64_t{1} << 24;  // far above any row, far below an overflow

std::string_view sparsity_name(Sparsity form) {
  return form == Sparsity::kBitmask ? "bitmask" : "2of4";
}

[[noreturn]] void unknown(std::string_view text, std::string_view origin) {
  fail(ErrorCode::kCorrupt,
       "[package] '{}': '{}' is no weight format such as int4:g32, w4a8:row:asym:bitmask, f16",
       origin, text);
}

std::string_view next_part(std::string_view* rest) {
  const size_t colon = rest->find(':');
  const std::string_view part = rest->substr(0, colon);
  *rest = colon == std::string_view::npos ? std::string_view() : rest->substr(colon + 1);
  return part;
}

int64_t parse_group(std::string_view part, std::string_view text, std::string_view origin) {
  if (part == "row") return 0;
  int64_t group = 0;
  if (!part.starts_with('g')) unknown(text, origin);
  const auto [end, error] = std::from_chars(part.data() + 1, part.data() + part.size(), group);
  if (error != std::errc() || end != part.data() + part.size() || group < 1 ||
      group > kLongestGroup)
    unknown(text, origin);
  return group;
}

}  // namespace

std::string to_string(const WeightFormat& format) {
  switch (format.dtype) {
    case DType::kF32:
      return "f32";
    case DType::kTileF16:
      return "f16";
    case DType::kTileInt4:
    case DType::kTileInt8:
      break;
    default:
      fail(ErrorCode::kInvalidArgument, "[package] no weight format stores {}",
           codec::info(format.dtype).name);
  }
  const int bits = format.dtype == DType::kTileInt4 ? 4 : 8;
  std::string text =
      format.int8_activations ? fmt::format("w{}a8", bits) : fmt::format("int{}", bits);
  text += format.group_size == 0 ? ":row" : fmt::format(":g{}", format.group_size);
  if (!format.symmetric) text += ":asym";
  if (format.sparsity == Sparsity::kNone) return text;
  return text + ':' + std::string(sparsity_name(format.sparsity));
}

WeightFormat weight_format_from_string(std::string_view text, std::string_view origin) {
  if (text == "f32") return {DType::kF32, 0, true, false};
  if (text == "f16") return {DType::kTileF16, 0, true, false};
  std::string_view rest = text;
  const std::string_view scheme = next_part(&rest);
  WeightFormat format;
  if (scheme == "int4" || scheme == "w4a8")
    format.dtype = DType::kTileInt4;
  else if (scheme == "int8" || scheme == "w8a8")
    format.dtype = DType::kTileInt8;
  else
    unknown(text, origin);
  format.int8_activations = scheme.starts_with('w');
  format.group_size = parse_group(next_part(&rest), text, origin);
  std::string_view part = next_part(&rest);
  format.symmetric = part != "asym";
  if (!format.symmetric) part = next_part(&rest);
  for (const Sparsity form : {Sparsity::kBitmask, Sparsity::kTwoOfFour}) {
    if (part == sparsity_name(form) && format.dtype == DType::kTileInt4) format.sparsity = form;
  }
  const bool known = part.empty() || format.sparsity != Sparsity::kNone;
  if (!known || !rest.empty() || text.ends_with(':')) unknown(text, origin);
  return format;
}

}  // namespace packlight::io
