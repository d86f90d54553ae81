#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <map>
#include <string>

#include "exec/tensor_compare.h"
#include "import/import.h"

namespace packlight::test {

// Two layers of different shapes, grouped heads.
inline io::DecoderConfig small_config(std::string family = "llama") {
  io::DecoderConfig c;
  c.family = std::move(family);
  c.hidden_size = 32;
  c.vocab_size = 40;
  c.head_dim = 8;
  c.max_positions = 64;
  c.heads = {4, 6};
  c.kv_heads = {2, 3};
  c.ffn_size = {48, 32};
  c.qkv_bias = c.family == "qwen2";
  c.tied_embeddings = c.family != "mistral";
  c.eos_tokens = {2};
  c.bos_token = 1;
  return c;
}

using NamedTensors = std::map<std::string, at::Tensor>;

// Weights large enough that every part of the network moves the logits.
inline NamedTensors random_weights(const io::DecoderConfig& config) {
  NamedTensors weights;
  uint64_t seed = 1;
  for (const io::TensorSpec& spec : io::decoder_tensors(config)) {
    weights[spec.name] = spec.is_vector ? noise({spec.cols}, seed) * 0.5 + 1
                                        : noise({spec.rows, spec.cols}, seed) * 0.4;
    ++seed;
  }
  return weights;
}

inline graph::Graph small_graph(const io::DecoderConfig& config, const NamedTensors& weights) {
  return import::build_decoder_graph(
      config, [&](const io::TensorSpec& spec) { return weights.at(spec.name); });
}

// The decoder written out in double for one sequence: [n, vocab].
class ReferenceDecoder {
 public:
  ReferenceDecoder(const io::DecoderConfig& config, const NamedTensors& weights) : c_(config) {
    for (const auto& [name, tensor] : weights) w_[name] = tensor.to(at::kDouble);
  }

  at::Tensor logits(const at::Tensor& ids) const {
    at::Tensor x = at::index_select(w_.at("model.embed_tokens.weight"), 0, ids);
    for (int64_t layer = 0; layer < c_.layers(); ++layer) {
      const std::string p = "model.layers." + std::to_string(layer);
      const at::Tensor h = norm(x, p + ".input_layernorm");
      const at::Tensor q = turn(linear(h, p + ".self_attn.q_proj"), c_.heads[layer]);
      const at::Tensor k = turn(linear(h, p + ".self_attn.k_proj"), c_.kv_heads[layer]);
      x = x +
          linear(attend(q, k, linear(h, p + ".self_attn.v_proj"), layer), p + ".self_attn.o_proj");
      const at::Tensor m = norm(x, p + ".post_attention_layernorm");
      const at::Tensor gate = linear(m, p + ".mlp.gate_proj");
      x = x +
          linear(gate / (1 + (-gate).exp()) * linear(m, p + ".mlp.up_proj"), p + ".mlp.down_proj");
    }
    x = norm(x, "model.norm");
    return at::matmul(
        x, w_.at(c_.tied_embeddings ? "model.embed_tokens.weight" : "lm_head.weight").t());
  }

 private:
  at::Tensor norm(const at::Tensor& x, const std::string& name) const {
    return x / ((x * x).mean(-1, true) + c_.rms_epsilon).sqrt() * w_.at(name + ".weight");
  }
  at::Tensor linear(const at::Tensor& x, const std::string& name) const {
    const at::Tensor y = at::matmul(x, w_.at(name + ".weight").t());
    return w_.count(name + ".bias") ? y + w_.at(name + ".bias") : y;
  }
  at::Tensor turn(const at::Tensor& x, int64_t heads) const {
    const auto frequencies = io::rotary_inverse_frequencies(c_);
    at::Tensor out = x.clone();
    auto a = out.accessor<double, 2>();
    const int64_t half = c_.head_dim / 2;
    for (int64_t t = 0; t < x.size(0); ++t) {
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t i = 0; i < half; ++i) {
          const double angle = static_cast<double>(t) * frequencies[i];
          double &first = a[t][h * c_.head_dim + i], &second = a[t][h * c_.head_dim + half + i];
          const double u = first, v = second;
          first = u * std::cos(angle) - v * std::sin(angle);
          second = v * std::cos(angle) + u * std::sin(angle);
        }
      }
    }
    return out;
  }
  at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    int64_t layer) const {
    const int64_t d = c_.head_dim, group = c_.heads[layer] / c_.kv_heads[layer];
    at::Tensor out = at::empty_like(q);
    for (int64_t t = 0; t < q.size(0); ++t) {
      const int64_t first =
          c_.sliding_window > 0 ? std::max<int64_t>(0, t - c_.sliding_window + 1) : 0;
      for (int64_t h = 0; h < c_.heads[layer]; ++h) {
        const auto head = [&](const at::Tensor& x) {
          return x.slice(0, first, t + 1).narrow(1, h / group * d, d);
        };
        const at::Tensor scores =
            at::mv(head(k), q[t].narrow(0, h * d, d)) / std::sqrt(static_cast<double>(d));
        out[t].narrow(0, h * d, d).copy_(at::mv(head(v).t(), at::softmax(scores, -1)));
      }
    }
    return out;
  }

  io::DecoderConfig c_;
  NamedTensors w_;
};

}  // namespace packlight::test
