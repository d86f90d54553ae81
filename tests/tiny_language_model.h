#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <unistd.h>

#include <filesystem>
#include <random>
#include <string>

#include "codec/ggml_blocks.h"
#include "codec/tile.h"
#include "import/import.h"

namespace packlight::test {

// A folder that goes with the test.
class TestFolder {
 public:
  TestFolder() {
    static int count = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("packlight_test_" + std::to_string(getpid()) + "_" + std::to_string(count++));
    std::filesystem::create_directory(path_);
  }
  ~TestFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::filesystem::path operator/(const char* name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline io::DecoderConfig tiny_config(const std::string& family = "llama", bool tied = true) {
  io::DecoderConfig c;
  c.family = family;
  c.name = "tiny";
  c.hidden_size = 64;
  c.vocab_size = 40;
  c.head_dim = 16;
  c.max_positions = 128;
  c.heads = {4, 4};
  c.kv_heads = {2, 2};
  c.ffn_size = {96, 96};
  c.tied_embeddings = tied;
  c.qkv_bias = family == "qwen2";
  c.eos_tokens = {2};
  return c;
}

// A byte-level vocabulary of a few letters, with fewer tokens than the embedding has rows.
inline text::Tokenizer tiny_tokenizer() {
  io::GgufFile file;
  file.path = "tiny";
  std::vector<std::string> pieces = {"<s>", "</s>", "<end>"};
  std::vector<int32_t> kinds = {3, 3, 3};
  for (char c = 'a'; c <= 'z'; ++c) {
    pieces.emplace_back(1, c);
    kinds.push_back(1);
  }
  pieces.emplace_back("th");
  kinds.push_back(1);
  file.metadata = {{"tokenizer.ggml.model", {std::string("gpt2")}},
                   {"tokenizer.ggml.pre", {std::string("smollm")}},
                   {"tokenizer.ggml.tokens", {pieces}},
                   {"tokenizer.ggml.token_type", {kinds}},
                   {"tokenizer.ggml.merges", {std::vector<std::string>{"t h"}}},
                   {"tokenizer.ggml.eos_token_id", {uint32_t{2}}}};
  return text::Tokenizer::from_gguf(file);
}

inline at::Tensor random_tensor(const io::TensorSpec& spec, at::ScalarType type) {
  std::mt19937 random(static_cast<uint32_t>(std::hash<std::string>()(spec.name)));
  std::normal_distribution<float> normal(spec.is_vector ? 1.0f : 0.0f, 0.1f);
  at::Tensor tensor = spec.is_vector ? at::empty({spec.cols}, at::kFloat) : at::empty({spec.rows, spec.cols}, at::kFloat);
  float* data = tensor.data_ptr<float>();
  for (int64_t i = 0; i < tensor.numel(); ++i) data[i] = normal(random);
  return tensor.to(type);
}

// A model with random dense weights; vectors are F32.
inline import::LanguageModel tiny_model(const io::DecoderConfig& config, at::ScalarType type = at::kFloat) {
  import::LanguageModel model{io::ModelKind::kHfFolder, "tiny", config, {}, tiny_tokenizer()};
  model.graph = import::build_decoder_graph(
      config, [&](const io::TensorSpec& spec) -> graph::Weight { return random_tensor(spec, spec.is_vector ? at::kFloat : type); });
  return model;
}

// Random codes and scales as a matrix of the model's shape.
inline codec::QuantizedMatrix random_codes(int64_t rows, int64_t cols, int bits, int64_t group_size, bool symmetric) {
  std::mt19937 random(static_cast<uint32_t>(rows * 31 + cols));
  codec::QuantizedMatrix m;
  m.rows = rows;
  m.cols = cols;
  m.bits = bits;
  m.group_size = group_size == 0 ? cols : group_size;
  const int lo = bits == 8 ? -127 : symmetric ? -8 : 0, hi = bits == 8 ? 127 : symmetric ? 7 : 15;
  for (int64_t i = 0; i < rows * cols; ++i) m.codes.push_back(static_cast<int8_t>(lo + random() % (hi - lo + 1)));
  for (int64_t i = 0; i < rows * m.groups_per_row(); ++i) {
    m.scales.push_back(static_cast<uint16_t>(0x2000 + random() % 0x800 + (random() % 2 << 15)));
    if (!symmetric) m.zeros.push_back(static_cast<uint8_t>(random() % 16));
  }
  return m;
}

}  // namespace packlight::test
