#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "io/compressed_tensors.h"
#include "io/decoder_config.h"
#include "io/gguf.h"
#include "io/network_json.h"
#include "io/network_package.h"
#include "io/npy.h"
#include "io/package.h"
#include "io/package_json.h"
#include "io/safetensors.h"
#include "packlight/error.h"

namespace packlight::fuzz {

// What each fuzz target does with its bytes; the tests run the same over every file in
// tests/io/corpus. An Error is a right answer to any bytes; a crash, a sanitizer's report, another
// exception, and an Error that calls itself a bug are not.
using Entry = void (*)(std::span<const std::byte>);

inline void run(Entry entry, std::span<const std::byte> bytes) {
  try {
    entry(bytes);
  } catch (const Error& e) {
    if (e.code() == ErrorCode::kInternal) std::abort();
  }
}

// Reads every byte it promises to hold.
inline void touch(std::span<const std::byte> bytes) {
  volatile std::byte sink{};
  for (const std::byte b : bytes) sink = b;
}

inline void use(const io::TensorRecord& record) {
  touch(record.bytes);
  const codec::EncodedTensor tensor = record.encoded();
  if (!codec::is_float(record.dtype) && !codec::is_ggml_block(record.dtype)) return;
  codec::check_sizes(tensor, record.name);
  if (tensor.rows == 0 || tensor.cols > 1 << 20) return;
  std::vector<float> row(tensor.cols);
  codec::decode_rows(tensor, tensor.rows - 1, tensor.rows, row.data());
}

// Everything one can do with a configuration that was accepted.
inline void use(const io::DecoderConfig& config) {
  io::validate(config, "fuzz");
  io::rotary_inverse_frequencies(config);
  io::rope_frequency_factors(config);
  io::decoder_tensors(config);
  io::decoder_config_to_gguf(config);
  io::decoder_config_from_json(io::decoder_config_to_json(config), "fuzz");
  io::decoder_config_from_hf(io::decoder_config_to_hf(config), nullptr, "fuzz");
}

inline void gguf(std::span<const std::byte> bytes) {
  const io::GgufFile file = io::parse_gguf(bytes, nullptr, "fuzz.gguf");
  for (const io::TensorRecord& record : file.tensors) use(record);
  use(io::decoder_config_from_gguf(file));
}

inline void safetensors(std::span<const std::byte> bytes) {
  const io::SafetensorsFile file = io::parse_safetensors(bytes, nullptr, "fuzz.safetensors");
  for (const io::TensorRecord& record : file.tensors) use(record);
}

inline void npy(std::span<const std::byte> bytes) {
  use(io::parse_npy(bytes, nullptr, "fuzz.npy", "fuzz"));
}

inline void config_json(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const Json json = base::parse_json(text, "fuzz.json");
  use(io::decoder_config_from_hf(json, &json, "fuzz.json"));
}

// A compressed-tensors config over a folder of small modules, packed and plain.
inline void compressed_config(std::span<const std::byte> bytes) {
  using codec::DType;
  static constexpr std::array<std::byte, 256> zeros{};
  static constexpr int64_t kShape[] = {4, 64};
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  io::HfFolder folder;
  folder.path = "fuzz";
  folder.config = base::parse_json(text, "fuzz.json");
  const auto add = [&](std::string name, DType dtype, std::vector<int64_t> shape,
                       std::span<const std::byte> data) {
    const uint64_t size = io::tensor_bytes(dtype, shape, name, "fuzz");
    folder.tensors.push_back({std::move(name), dtype, std::move(shape), data.first(size), nullptr});
  };
  const std::string modules[] = {"model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj",
                                 "lm_head"};
  const std::vector<int64_t> words[] = {{4, 8}, {4, 16}};  // of 4 bits and 8 bits
  for (size_t i = 0; i < 2; ++i) {
    add(modules[i] + ".weight_packed", DType::kI32, words[i], zeros);
    add(modules[i] + ".weight_shape", DType::kI64, {2}, std::as_bytes(std::span(kShape)));
    add(modules[i] + ".weight_scale", DType::kF16, {4, i == 0 ? 2 : 1}, zeros);
    add(modules[i] + ".weight_zero_point", DType::kI32, {1, i == 0 ? 2 : 1}, zeros);
  }
  add(modules[2] + ".weight", DType::kI8, {4, 64}, zeros);
  add(modules[2] + ".weight_scale", DType::kF32, {4, 1}, zeros);
  if (!io::CompressedTensors::present(folder)) return;
  const io::CompressedTensors tensors(folder);
  for (const std::string& module : modules) {
    try {
      tensors.int8_activations(module);
      const codec::EncodedTensor weight = tensors.weight(module);
      codec::check_sizes(weight, module);
      touch(weight.data);
    } catch (const Error& e) {
      if (e.code() == ErrorCode::kInternal) std::abort();
    }
  }
}

// A package's JSON entry alone: inside the file it is text in text, which a fuzzer of bytes hardly
// gets through.
inline void package_metadata(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const io::PackageMetadata metadata =
      io::package_metadata_from_json(base::parse_json(text, "fuzz.plk"), "fuzz.plk");
  use(metadata.config);
  for (const auto& [name, format] : metadata.formats) {
    if (io::weight_format_from_string(io::to_string(format), name) != format) std::abort();
  }
  io::package_metadata_to_json(metadata);
}

inline void network_package(const io::NetworkPackage& package) {
  for (const io::NetworkTensor& tensor : io::network_tensors(*package.network())) {
    if (tensor.attribute != nullptr) {
      use(*tensor.attribute);
    } else if (!tensor.constant->is_packed()) {
      use(tensor.constant->record);
    } else {
      const codec::EncodedTensor& tiles = tensor.constant->packed;
      std::vector<float> row(tiles.cols);
      codec::decode_rows(tiles, tiles.rows - 1, tiles.rows, row.data());
    }
  }
  package.damaged_blocks();
}

inline void package(std::span<const std::byte> bytes) {
  // As a mapped file: the start on a line, and nothing readable after the end.
  const std::shared_ptr<std::byte> copy(
      static_cast<std::byte*>(
          ::operator new(std::max<size_t>(bytes.size(), 1), std::align_val_t(64))),
      [](std::byte* p) { ::operator delete(p, std::align_val_t(64)); });
  std::copy(bytes.begin(), bytes.end(), copy.get());
  const std::span<const std::byte> view(copy.get(), bytes.size());
  if (io::probe_package_kind(view, "fuzz") == io::PackageKind::kNetwork)
    return network_package(io::NetworkPackage::parse(view, copy, "fuzz.plk"));
  const io::Package package = io::Package::parse(view, copy, "fuzz.plk");
  for (const io::TensorSpec& spec : io::decoder_tensors(package.config())) {
    const codec::EncodedTensor tensor = package.tensor(spec.name);
    codec::check_sizes(tensor, spec.name);
    std::vector<float> row(tensor.cols);
    codec::decode_rows(tensor, tensor.rows - 1, tensor.rows, row.data());
  }
  touch(package.blob("tokenizer"));
  package.damaged_blocks();
}

}  // namespace packlight::fuzz
