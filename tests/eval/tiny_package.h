#pragma once

#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "codec/half.h"
#include "codec/tile.h"
#include "io/package.h"

namespace packlight::eval {

// A package of a two-layer decoder with random codes, in a file that the destructor removes.
class TinyPackage {
 public:
  explicit TinyPackage(const io::WeightFormat& format) {
    static int count = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("packlight_eval_test_" + std::to_string(getpid()) + "_" + std::to_string(count++) + ".plk");
    io::PackageMetadata metadata;
    metadata.config = config();
    std::vector<io::PackageTensor> tensors;
    for (const io::TensorSpec& spec : io::decoder_tensors(metadata.config)) {
      tensors.push_back({spec.name, spec.is_vector ? vector(spec.cols) : matrix(spec, format)});
      if (!spec.is_vector) metadata.formats[spec.name] = format;
    }
    metadata.recipe = Json::object();
    io::write_package(path_, metadata, tensors, {});
  }
  ~TinyPackage() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  TinyPackage(const TinyPackage&) = delete;
  TinyPackage& operator=(const TinyPackage&) = delete;

  const std::filesystem::path& path() const { return path_; }

  static io::DecoderConfig config() {
    io::DecoderConfig c;
    c.family = "llama";
    c.name = "tiny";
    c.hidden_size = 64;
    c.vocab_size = 100;
    c.head_dim = 16;
    c.max_positions = 128;
    c.heads = {4, 4};
    c.kv_heads = {2, 2};
    c.ffn_size = {96, 96};
    c.tied_embeddings = true;
    return c;
  }

 private:
  codec::EncodedTensor vector(int64_t size) {
    auto values = std::make_shared<std::vector<float>>(size);
    std::normal_distribution<float> normal(1, 0.1f);
    for (float& v : *values) v = normal(random_);
    codec::EncodedTensor out;
    out.rows = 1;
    out.cols = size;
    out.data = std::as_bytes(std::span(*values));
    out.owner = values;
    return out;
  }

  codec::EncodedTensor matrix(const io::TensorSpec& spec, const io::WeightFormat& format) {
    codec::QuantizedMatrix m;
    m.rows = spec.rows;
    m.cols = spec.cols;
    m.bits = format.dtype == codec::DType::kTileInt4 ? 4 : 8;
    m.group_size = format.group_size == 0 ? spec.cols : format.group_size;
    const int largest = m.bits == 4 ? 7 : 127;
    std::uniform_int_distribution<int> code(-largest, largest);
    for (int64_t i = 0; i < m.rows * m.cols; ++i) m.codes.push_back(static_cast<int8_t>(code(random_)));
    // Codes spread uniformly: a product of this scale keeps the size of its input, times 1.4.
    const float scale = 1.4f * std::sqrt(3.f / static_cast<float>(spec.cols)) / static_cast<float>(largest);
    m.scales.assign(m.rows * m.groups_per_row(), codec::f32_to_f16(scale));
    return codec::pack(m);
  }

  std::filesystem::path path_;
  std::mt19937 random_{5};
};

}  // namespace packlight::eval
