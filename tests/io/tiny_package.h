#pragma once

#include <string>
#include <vector>

#include "codec/half.h"
#include "codec/sparse_tile.h"
#include "codec/tile.h"
#include "io/package.h"

namespace packlight::test {

// Two layers of width 40: odd sizes, so padding and a ragged group occur.
inline io::DecoderConfig tiny_config() {
  io::DecoderConfig c;
  c.family = "llama";
  c.name = "tiny";
  c.hidden_size = 40;
  c.vocab_size = 50;
  c.head_dim = 8;
  c.max_positions = 128;
  c.heads = {4, 4};
  c.kv_heads = {2, 2};
  c.ffn_size = {48, 24};
  c.tied_embeddings = true;
  c.eos_tokens = {2};
  return c;
}

// Owns what write_package() is given.
struct TinyPackage {
  io::PackageMetadata metadata;
  std::vector<io::PackageTensor> tensors;
  std::string tokenizer = "the tokenizer";

  TinyPackage() {
    metadata.config = tiny_config();
    metadata.recipe = {{"scheme", "int4"}};
    int number = 0;
    for (const io::TensorSpec& spec : io::decoder_tensors(metadata.config)) {
      if (spec.is_vector)
        add_vector(spec);
      else
        add_matrix(spec, number++);
    }
  }

  // Stores the INT4 matrices of the layers with bitmasks, those of the second in pairs if they hold
  // them.
  void compress() {
    for (io::PackageTensor& tensor : tensors) {
      const auto format = metadata.formats.find(tensor.name);
      if (format == metadata.formats.end() || format->second.dtype != codec::DType::kTileInt4)
        continue;
      codec::Sparsity form = codec::Sparsity::kBitmask;
      if (tensor.name.find("layers.1") != std::string::npos) {
        codec::QuantizedMatrix m = codec::unpack(tensor.weight);
        for (int64_t i = 0; i < m.rows * m.cols; ++i) {
          if (i % 4 < 2) m.codes[i] = m.symmetric() ? 0 : 5;
        }
        tensor.weight = codec::pack(m);
        if (m.symmetric()) form = codec::Sparsity::kTwoOfFour;
      }
      tensor.sparse = codec::compress_tiles(tensor.weight, form).value();
      format->second.sparsity = form;
    }
  }

  std::map<std::string, std::span<const std::byte>> blobs() const {
    return {{"tokenizer", std::as_bytes(std::span(tokenizer))}};
  }
  void write(const std::filesystem::path& path) const {
    io::write_package(path, metadata, tensors, blobs());
  }

 private:
  void add_vector(const io::TensorSpec& spec) {
    auto values = std::make_shared<std::vector<float>>();
    for (int64_t i = 0; i < spec.cols; ++i) values->push_back(1.0f + static_cast<float>(i));
    codec::EncodedTensor t;
    t.rows = 1;
    t.cols = spec.cols;
    t.data = std::as_bytes(std::span(*values));
    t.owner = values;
    tensors.push_back({spec.name, t});
  }

  // Every format in turn.
  void add_matrix(const io::TensorSpec& spec, int number) {
    io::WeightFormat format;
    if (number % 4 == 3) {
      format = {codec::DType::kTileF16, 0, true, false};
      metadata.formats[spec.name] = format;
      const std::vector<float> values(spec.rows * spec.cols, 0.5f);
      tensors.push_back({spec.name, codec::pack_f16(values, spec.rows, spec.cols)});
      return;
    }
    codec::QuantizedMatrix m;
    m.rows = spec.rows;
    m.cols = spec.cols;
    m.bits = number % 4 == 0 ? 8 : 4;
    m.group_size = number % 4 == 0 ? spec.cols : 32;
    for (int64_t i = 0; i < m.rows * m.cols; ++i)
      m.codes.push_back(static_cast<int8_t>((i * 7 + number) % 8));
    m.scales.assign(m.rows * m.groups_per_row(), codec::f32_to_f16(0.25f));
    if (number % 4 == 2) m.zeros.assign(m.scales.size(), 5);
    format.dtype = m.bits == 8 ? codec::DType::kTileInt8 : codec::DType::kTileInt4;
    format.group_size = m.bits == 8 ? 0 : 32;
    format.symmetric = m.symmetric();
    format.int8_activations = number % 4 == 1;
    metadata.formats[spec.name] = format;
    tensors.push_back({spec.name, codec::pack(m)});
  }
};

}  // namespace packlight::test
