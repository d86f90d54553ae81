#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "data/idx.h"
#include "data/npz.h"
#include "data/picture.h"
#include "data/preprocess.h"
#include "fuzz/io_entries.h"

namespace packlight::fuzz {

inline void idx(std::span<const std::byte> bytes) {
  touch(data::parse_idx(bytes, nullptr, "fuzz.idx").bytes);
}

inline void npz(std::span<const std::byte> bytes) {
  for (const io::TensorRecord& record : data::parse_npz(bytes, nullptr, "fuzz.npz")) use(record);
}

inline void picture(std::span<const std::byte> bytes) {
  const data::Picture picture = data::decode_picture(bytes, "fuzz.png");
  touch(std::as_bytes(std::span(picture.pixels)));
}

// The file's steps over a small picture, and the same from JSON, as a package has them.
inline void preprocess(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  data::Preprocess spec = data::parse_preprocess(text, "fuzz.yaml");
  const Json json = data::preprocess_to_json(spec);
  try {
    if (data::preprocess_to_json(data::preprocess_from_json(json, "fuzz.plk")) != json)
      std::abort();
  } catch (const Error&) {
    std::abort();
  }
  for (auto* size : {&spec.resize, &spec.crop}) {
    if (*size && static_cast<int64_t>((*size)->height) * (*size)->width > 1 << 16) return;
  }
  const data::Picture picture{3, 5, 3, std::vector<uint8_t>(45, 7)};
  touch(data::Preprocessor(spec, data::Channels::kRgb).apply(picture, "fuzz").bytes);
}

}  // namespace packlight::fuzz
