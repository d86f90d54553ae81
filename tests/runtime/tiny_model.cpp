#include "runtime/tiny_model.h"

#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <stdexcept>

#include "codec/half.h"
#include "codec/sparse_tile.h"
#include "codec/tile.h"

namespace packlight::test {
namespace {

// Rounds rows to codes and scales by the largest magnitude of each group: good enough for random
// weights.
codec::QuantizedMatrix quantize(const std::vector<float>& w, int64_t rows, int64_t cols,
                                const io::WeightFormat& format) {
  codec::QuantizedMatrix q;
  q.rows = rows;
  q.cols = cols;
  q.bits = format.dtype == codec::DType::kTileInt8 ? 8 : 4;
  q.group_size = format.group_size == 0 ? cols : format.group_size;
  q.codes.resize(rows * cols);
  const bool symmetric = format.symmetric;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t g = 0; g < q.groups_per_row(); ++g) {
      const int64_t begin = g * q.group_size, end = std::min(cols, begin + q.group_size);
      float low = 0, high = 0;
      for (int64_t c = begin; c < end; ++c) {
        low = std::min(low, w[r * cols + c]);
        high = std::max(high, w[r * cols + c]);
      }
      const float most = symmetric ? (q.bits == 8 ? 127.f : 7.f) : 15.f;
      const uint16_t half =
          codec::f32_to_f16((symmetric ? std::max(high, -low) : high - low) / most);
      const float scale = codec::f16_to_f32(half);
      const float zero = symmetric ? 0 : std::clamp(std::nearbyint(-low / scale), 0.f, 15.f);
      q.scales.push_back(half);
      if (!symmetric) q.zeros.push_back(static_cast<uint8_t>(zero));
      for (int64_t c = begin; c < end; ++c) {
        const float code = std::nearbyint(w[r * cols + c] / scale) + zero;
        q.codes[r * cols + c] =
            static_cast<int8_t>(std::clamp(code, symmetric ? -most : 0.f, most));
      }
    }
  }
  return q;
}

// Zeros half of the weights, in the pattern that `form` holds.
void prune(std::vector<float>& w, codec::Sparsity form, std::mt19937_64& random) {
  for (size_t i = 0; i < w.size() && form != codec::Sparsity::kNone; i += 4) {
    const size_t first = random() % 4, second = (first + 1 + random() % 3) % 4;
    const uint64_t anywhere = random();
    for (size_t c = 0; c < 4 && i + c < w.size(); ++c) {
      const bool stays = form == codec::Sparsity::kTwoOfFour ? c == first || c == second
                                                             : (anywhere >> c & 1) != 0;
      if (!stays) w[i + c] = 0;
    }
  }
}

codec::EncodedTensor vector_tensor(std::vector<float> values) {
  auto owner = std::make_shared<std::vector<float>>(std::move(values));
  codec::EncodedTensor t;
  t.rows = 1;
  t.cols = static_cast<int64_t>(owner->size());
  t.data = std::as_bytes(std::span(*owner));
  t.owner = owner;
  return t;
}

io::WeightFormat default_format(const std::string& name) {
  const bool outer = name == "model.embed_tokens.weight" || name == "lm_head.weight";
  return format_from(outer ? "w8a8:g32" : "w4a8:g32");
}

}  // namespace

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "packlight_test_XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp");
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

io::WeightFormat format_from(const char* text) {
  return io::weight_format_from_string(text, "test");
}

io::DecoderConfig tiny_config() {
  io::DecoderConfig c;
  c.family = "llama";
  c.hidden_size = 72;
  c.vocab_size = 301;
  c.head_dim = 16;
  c.max_positions = 256;
  c.heads = {4, 4};
  c.kv_heads = {2, 2};
  c.ffn_size = {104, 104};
  c.tied_embeddings = true;
  c.eos_tokens = {0};
  return c;
}

void write_tiny_model(const TinyModel& model, const std::filesystem::path& path,
                      const std::map<std::string, std::span<const std::byte>>& blobs) {
  std::mt19937_64 random(model.seed);
  std::normal_distribution<float> normal;
  io::PackageMetadata metadata;
  metadata.config = model.config;
  metadata.recipe = Json::object();
  std::vector<io::PackageTensor> tensors;
  for (const io::TensorSpec& spec : io::decoder_tensors(model.config)) {
    std::vector<float> values(spec.rows * spec.cols);
    if (spec.is_vector) {
      const bool bias = spec.name.ends_with(".bias");
      for (float& v : values) v = (bias ? 0.f : 1.f) + 0.2f * normal(random);
      tensors.push_back({spec.name, vector_tensor(std::move(values))});
      continue;
    }
    const float size =
        spec.name == "model.embed_tokens.weight" ? 1 : 1 / std::sqrt(static_cast<float>(spec.cols));
    for (float& v : values) v = size * normal(random);
    io::WeightFormat format = model.format ? model.format(spec.name) : default_format(spec.name);
    prune(values, format.sparsity, random);
    const codec::Sparsity form = model.store_dense ? codec::Sparsity::kNone : format.sparsity;
    format.sparsity = form;
    metadata.formats[spec.name] = format;
    tensors.push_back(
        {spec.name, format.dtype == codec::DType::kTileF16
                        ? codec::pack_f16(values, spec.rows, spec.cols)
                        : codec::pack(quantize(values, spec.rows, spec.cols, format))});
    if (form != codec::Sparsity::kNone)
      tensors.back().sparse = codec::compress_tiles(tensors.back().weight, form).value();
  }
  io::write_package(path, metadata, tensors, blobs);
}

std::shared_ptr<const io::Package> tiny_package(const TinyModel& model,
                                                const TemporaryFolder& folder) {
  write_tiny_model(model, folder / "tiny.plk");
  return std::make_shared<const io::Package>(io::Package::open(folder / "tiny.plk"));
}

}  // namespace packlight::test
