#include "runtime/reference_decoder.h"

#include <algorithm>
#include <cmath>

#include "codec/half.h"
#include "codec/tile.h"

namespace packlight::test {
namespace {

std::vector<float> load_vector(const io::Package& package, const std::string& name) {
  const codec::EncodedTensor t = package.tensor(name);
  std::vector<float> values(t.cols);
  codec::decode_rows(t, 0, 1, values.data());
  return values;
}

// Symmetric INT8 with one scale for each `block` elements, back as values.
void round_int8(std::span<double> x, size_t block) {
  for (size_t begin = 0; begin < x.size(); begin += block) {
    const std::span<double> part = x.subspan(begin, std::min(block, x.size() - begin));
    double most = 0;
    for (const double v : part) most = std::max(most, std::abs(v));
    const float scale = static_cast<float>(most) / 127;
    for (double& v : part)
      v = scale == 0 ? 0 : std::nearbyint(static_cast<float>(v) / scale) * scale;
  }
}

}  // namespace

ReferenceDecoder::ReferenceDecoder(const io::Package& package, kernels::KvType kv)
    : config_(package.config()), kv_(kv), frequencies_(io::rotary_inverse_frequencies(config_)) {
  embedding_ = load(package, "model.embed_tokens.weight");
  for (int64_t i = 0; i < config_.layers(); ++i) {
    const std::string at = "model.layers." + std::to_string(i) + ".";
    Layer layer;
    layer.heads = config_.heads[i];
    layer.kv_heads = config_.kv_heads[i];
    layer.attention_norm = load_vector(package, at + "input_layernorm.weight");
    layer.ffn_norm = load_vector(package, at + "post_attention_layernorm.weight");
    layer.q = load(package, at + "self_attn.q_proj", config_.qkv_bias);
    layer.k = load(package, at + "self_attn.k_proj", config_.qkv_bias);
    layer.v = load(package, at + "self_attn.v_proj", config_.qkv_bias);
    layer.o = load(package, at + "self_attn.o_proj");
    layer.gate = load(package, at + "mlp.gate_proj");
    layer.up = load(package, at + "mlp.up_proj");
    layer.down = load(package, at + "mlp.down_proj");
    layers_.push_back(std::move(layer));
  }
  final_norm_ = load_vector(package, "model.norm.weight");
  head_ = config_.tied_embeddings ? embedding_ : load(package, "lm_head.weight");
}

ReferenceDecoder::Matrix ReferenceDecoder::load(const io::Package& package, const std::string& name,
                                                bool bias) const {
  const std::string weight = name.ends_with(".weight") ? name : name + ".weight";
  const codec::EncodedTensor t = package.tensor(weight);
  Matrix m;
  m.rows = t.rows;
  m.cols = t.cols;
  m.w.resize(t.rows * t.cols);
  for (int64_t r = 0; r < t.rows; ++r) codec::decode_tile_row(t, r, m.w.data() + r * t.cols);
  m.int8_activations = package.format(weight).int8_activations;
  if (bias) m.bias = load_vector(package, name + ".bias");
  return m;
}

std::vector<double> ReferenceDecoder::multiply(const Matrix& m, std::vector<double> x) const {
  if (m.int8_activations) round_int8(x, 32);
  std::vector<double> y(m.rows, 0);
  for (int64_t r = 0; r < m.rows; ++r) {
    for (int64_t c = 0; c < m.cols; ++c) y[r] += m.w[r * m.cols + c] * x[c];
    if (!m.bias.empty()) y[r] += m.bias[r];
  }
  return y;
}

std::vector<double> ReferenceDecoder::norm(const std::vector<double>& x,
                                           const std::vector<float>& weight) const {
  double sum = 0;
  for (const double v : x) sum += v * v;
  const double factor = 1 / std::sqrt(sum / static_cast<double>(x.size()) + config_.rms_epsilon);
  std::vector<double> y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] * factor * weight[i];
  return y;
}

void ReferenceDecoder::rotate(std::vector<double>& heads, int64_t position) const {
  const int64_t dim = config_.head_dim, half = dim / 2;
  for (size_t at = 0; at < heads.size(); at += dim) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<float>(position) * frequencies_[i];
      const double a = heads[at + i], b = heads[at + i + half];
      heads[at + i] = a * std::cos(angle) - b * std::sin(angle);
      heads[at + i + half] = b * std::cos(angle) + a * std::sin(angle);
    }
  }
}

void ReferenceDecoder::round_kv(std::vector<double>& heads) const {
  if (kv_ == kernels::KvType::kInt8) return round_int8(heads, config_.head_dim);
  for (double& v : heads) v = codec::f16_to_f32(codec::f32_to_f16(static_cast<float>(v)));
}

std::vector<double> ReferenceDecoder::attention(Layer& layer, const std::vector<double>& x) const {
  const auto position = static_cast<int64_t>(layer.keys.size());
  const int64_t dim = config_.head_dim, group = layer.heads / layer.kv_heads;
  std::vector<double> q = multiply(layer.q, x), k = multiply(layer.k, x), v = multiply(layer.v, x);
  rotate(q, position);
  rotate(k, position);
  round_kv(k);
  round_kv(v);
  layer.keys.push_back(std::move(k));
  layer.values.push_back(std::move(v));
  const int64_t window = config_.sliding_window;
  const int64_t first = window > 0 ? std::max<int64_t>(0, position + 1 - window) : 0;
  std::vector<double> out(q.size(), 0);
  for (int64_t h = 0; h < layer.heads; ++h) {
    const int64_t at = h / group * dim;
    std::vector<double> weight;
    double most = -INFINITY, total = 0;
    for (int64_t p = first; p <= position; ++p) {
      double score = 0;
      for (int64_t i = 0; i < dim; ++i) score += q[h * dim + i] * layer.keys[p][at + i];
      weight.push_back(score / std::sqrt(static_cast<double>(dim)));
      most = std::max(most, weight.back());
    }
    for (double& w : weight) total += w = std::exp(w - most);
    for (int64_t p = first; p <= position; ++p) {
      for (int64_t i = 0; i < dim; ++i)
        out[h * dim + i] += weight[p - first] / total * layer.values[p][at + i];
    }
  }
  return multiply(layer.o, out);
}

std::vector<double> ReferenceDecoder::step(int32_t token) {
  const float* row = embedding_.w.data() + token * embedding_.cols;
  std::vector<double> x(row, row + embedding_.cols);
  for (Layer& layer : layers_) {
    const std::vector<double> a = attention(layer, norm(x, layer.attention_norm));
    for (size_t i = 0; i < x.size(); ++i) x[i] += a[i];
    const std::vector<double> n = norm(x, layer.ffn_norm), up = multiply(layer.up, n);
    std::vector<double> gate = multiply(layer.gate, n);
    for (size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
    const std::vector<double> f = multiply(layer.down, gate);
    for (size_t i = 0; i < x.size(); ++i) x[i] += f[i];
  }
  return multiply(head_, norm(x, final_norm_));
}

}  // namespace packlight::test
