#include "eval/first_difference.h"

#include <fmt/format.h>

#include <cstring>
#include <vector>

#include "codec/half.h"
#include "codec/tile.h"

namespace packlight::eval {
namespace {

bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

template <class T>
std::optional<size_t> mismatch(const std::vector<T>& a, const std::vector<T>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i]) return i;
  }
  return std::nullopt;
}

std::string in_codes(const codec::QuantizedMatrix& got, const codec::QuantizedMatrix& want) {
  const auto groups = static_cast<size_t>(got.groups_per_row()), cols = static_cast<size_t>(got.cols);
  if (const auto i = mismatch(got.scales, want.scales)) {
    return fmt::format("row {}, group {}: scale {:.9g}, not {:.9g}", *i / groups, *i % groups,
                       codec::f16_to_f32(got.scales[*i]), codec::f16_to_f32(want.scales[*i]));
  }
  if (const auto i = mismatch(got.zeros, want.zeros)) {
    return fmt::format("row {}, group {}: zero point {}, not {}", *i / groups, *i % groups, got.zeros[*i],
                       want.zeros[*i]);
  }
  if (const auto i = mismatch(got.codes, want.codes)) {
    return fmt::format("row {}, column {}: code {}, not {}", *i / cols, *i % cols, got.codes[*i], want.codes[*i]);
  }
  return "bytes of the padding";
}

std::string in_values(const codec::EncodedTensor& got, const codec::EncodedTensor& want) {
  std::vector<float> a(got.cols), b(want.cols);
  for (int64_t row = 0; row < got.rows; ++row) {
    codec::decode_rows(got, row, row + 1, a.data());
    codec::decode_rows(want, row, row + 1, b.data());
    for (int64_t col = 0; col < got.cols; ++col) {
      if (std::memcmp(&a[col], &b[col], sizeof(float)) != 0) {
        return fmt::format("row {}, column {}: {:.9g}, not {:.9g}", row, col, a[col], b[col]);
      }
    }
  }
  return "bytes of the padding";
}

}  // namespace

std::optional<std::string> first_difference(const codec::EncodedTensor& got, const codec::EncodedTensor& want) {
  if (got.rows != want.rows || got.cols != want.cols) {
    return fmt::format("{} x {}, not {} x {}", got.rows, got.cols, want.rows, want.cols);
  }
  if (got.dtype != want.dtype || got.group_size != want.group_size || got.symmetric() != want.symmetric()) {
    const auto name = [](const codec::EncodedTensor& t) {
      return fmt::format("{} in groups of {}{}", codec::info(t.dtype).name, t.group_size,
                         t.symmetric() ? "" : " with zero points");
    };
    return fmt::format("stored as {}, not {}", name(got), name(want));
  }
  if (same_bytes(got.data, want.data) && same_bytes(got.scales, want.scales) && same_bytes(got.zeros, want.zeros)) {
    return std::nullopt;
  }
  const bool codes = got.dtype == codec::DType::kTileInt4 || got.dtype == codec::DType::kTileInt8;
  return codes ? in_codes(codec::unpack(got), codec::unpack(want)) : in_values(got, want);
}

}  // namespace packlight::eval
