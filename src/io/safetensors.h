#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/tensor_record.h"

namespace packlight::io {

// A mapped safetensors file (https://github.com/huggingface/safetensors, format section).
struct SafetensorsFile {
  std::map<std::string, std::string> metadata;  // the header's "__metadata__"
  std::vector<TensorRecord> tensors;            // in file order
  const TensorRecord* find(std::string_view name) const;
};

// Errors: NotFound, Io; Corrupt for truncation, bad header, overlapping, out-of-range or misordered
// offsets, holes, duplicate names, sizes that contradict shape and dtype; Unsupported for a dtype
// we have no type for.
SafetensorsFile read_safetensors(const std::filesystem::path& path);
// The same over bytes that `owner` keeps alive; `origin` is the path for error messages.
SafetensorsFile parse_safetensors(std::span<const std::byte> bytes,
                                  std::shared_ptr<const void> owner, const std::string& origin);

// What to write: `chunks` follow each other in the tensor's bytes (so padding needs no copy).
struct TensorToWrite {
  std::string name;
  codec::DType dtype;  // dense types only
  std::vector<int64_t> shape;
  std::vector<std::span<const std::byte>> chunks;
};

// Writes atomically; mapped pages leave memory once written. A tensor without chunks is made on
// demand: `produce` is called once for each, in order, so that no more than one is in memory. The
// header is padded with spaces so that the data starts at a multiple of `alignment`; each tensor's
// size must already be a multiple of what its successor needs (the format has no holes).
void write_safetensors(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata, int alignment = 64,
                       const std::function<std::vector<std::byte>(size_t index)>& produce = nullptr);

}  // namespace packlight::io
