#include "runtime/weights.h"

#include <string>

#include "base/fail.h"
#include "codec/tile.h"

namespace packlight::runtime {
namespace {

class Loader {
 public:
  explicit Loader(const io::Package& package) : package_(package) {}

  const float* vector(const std::string& name, int64_t size) {
    const codec::EncodedTensor t = tensor(name, 1, size);
    if (t.dtype != codec::DType::kF32) {
      fail(ErrorCode::kUnsupported, "[runtime] {}: vector '{}' is {}, must be F32",
           package_.path().string(), name, codec::info(t.dtype).name);
    }
    bytes_ += t.size_bytes();
    return reinterpret_cast<const float*>(t.data.data());
  }

  codec::EncodedTensor embedding(const std::string& name, int64_t rows, int64_t cols) {
    if (package_.sparse(name) != nullptr) {
      fail(ErrorCode::kUnsupported, "[runtime] {}: '{}': rows are looked up in dense tiles only",
           package_.path().string(), name);
    }
    return matrix(name, rows, cols);
  }

  Linear linear(const std::string& name, int64_t rows, int64_t cols, const std::string& bias = "") {
    Linear l;
    if (const codec::SparseTiles* sparse = package_.sparse(name)) {
      l.sparse = *sparse;
      l.w = shape_of(*sparse);
      check_shape(name, l.w, rows, cols);
      check_groups(name, l.w);
      bytes_ += sparse->size_bytes();
    } else {
      l.w = matrix(name, rows, cols);
      bytes_ += l.w.size_bytes();
    }
    l.int8_activations = has_codes(l.w) && package_.format(name).int8_activations;
    if (!bias.empty()) l.bias = vector(bias, rows);
    return l;
  }

  uint64_t bytes() const { return bytes_; }

 private:
  static bool has_codes(const codec::EncodedTensor& t) {
    return t.dtype == codec::DType::kTileInt4 || t.dtype == codec::DType::kTileInt8;
  }

  // All but the data.
  static codec::EncodedTensor shape_of(const codec::SparseTiles& sparse) {
    codec::EncodedTensor t;
    t.dtype = codec::DType::kTileInt4;
    t.rows = sparse.rows;
    t.cols = sparse.cols;
    t.group_size = sparse.group_size;
    t.scales = sparse.scales;
    t.zeros = sparse.zeros;
    return t;
  }

  void check_groups(const std::string& name, const codec::EncodedTensor& t) {
    if (!has_codes(t) || t.group_size == t.cols || (t.group_size > 0 && t.group_size % 32 == 0))
      return;
    fail(ErrorCode::kUnsupported,
         "[runtime] {}: '{}': group size {} is neither a multiple of 32 nor the row length {}",
         package_.path().string(), name, t.group_size, t.cols);
  }

  void check_shape(const std::string& name, const codec::EncodedTensor& t, int64_t rows,
                   int64_t cols) {
    if (t.rows == rows && t.cols == cols) return;
    fail(ErrorCode::kCorrupt,
         "[runtime] {}: tensor '{}' is [{}, {}], the configuration says [{}, {}]",
         package_.path().string(), name, t.rows, t.cols, rows, cols);
  }

  codec::EncodedTensor matrix(const std::string& name, int64_t rows, int64_t cols) {
    const codec::EncodedTensor t = tensor(name, rows, cols);
    if (!codec::is_tile(t.dtype)) {
      fail(ErrorCode::kUnsupported, "[runtime] {}: matrix '{}' is {}; the runtime multiplies tiles",
           package_.path().string(), name, codec::info(t.dtype).name);
    }
    check_groups(name, t);
    return t;
  }

  codec::EncodedTensor tensor(const std::string& name, int64_t rows, int64_t cols) {
    if (!package_.contains(name)) {
      fail(ErrorCode::kCorrupt, "[runtime] {}: tensor '{}' is missing", package_.path().string(),
           name);
    }
    codec::EncodedTensor t = package_.tensor(name);
    check_shape(name, t, rows, cols);
    codec::check_sizes(t, name);
    return t;
  }

  const io::Package& package_;
  uint64_t bytes_ = 0;
};

LayerWeights load_layer(Loader& load, const io::DecoderConfig& config, int64_t layer) {
  const std::string at = "model.layers." + std::to_string(layer) + ".";
  LayerWeights w;
  w.heads = config.heads[layer];
  w.kv_heads = config.kv_heads[layer];
  w.ffn_size = config.ffn_size[layer];
  const int64_t hidden = config.hidden_size, q = w.heads * config.head_dim,
                kv = w.kv_heads * config.head_dim;
  const auto projection = [&](const char* name, int64_t rows) {
    const std::string full = at + "self_attn." + name;
    return load.linear(full + ".weight", rows, hidden, config.qkv_bias ? full + ".bias" : "");
  };
  w.attention_norm = load.vector(at + "input_layernorm.weight", hidden);
  w.q = projection("q_proj", q);
  w.k = projection("k_proj", kv);
  w.v = projection("v_proj", kv);
  w.o = load.linear(at + "self_attn.o_proj.weight", hidden, q);
  w.ffn_norm = load.vector(at + "post_attention_layernorm.weight", hidden);
  w.gate = load.linear(at + "mlp.gate_proj.weight", w.ffn_size, hidden);
  w.up = load.linear(at + "mlp.up_proj.weight", w.ffn_size, hidden);
  w.down = load.linear(at + "mlp.down_proj.weight", hidden, w.ffn_size);
  return w;
}

}  // namespace

DecoderWeights load_weights(std::shared_ptr<const io::Package> package) {
  const io::DecoderConfig& config = package->config();
  io::validate(config, package->path().string());
  Loader load(*package);
  DecoderWeights weights;
  const std::string embedding = "model.embed_tokens.weight";
  weights.embedding = load.embedding(embedding, config.vocab_size, config.hidden_size);
  for (int64_t i = 0; i < config.layers(); ++i)
    weights.layers.push_back(load_layer(load, config, i));
  weights.final_norm = load.vector("model.norm.weight", config.hidden_size);
  weights.head = load.linear(config.tied_embeddings ? embedding : "lm_head.weight",
                             config.vocab_size, config.hidden_size);
  weights.bytes_per_token = load.bytes() + weights.embedding.size_bytes() / config.vocab_size;
  weights.package = std::move(package);
  return weights;
}

}  // namespace packlight::runtime
