#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "io/package.h"
#include "kernels/kernels.h"

namespace packlight::test {

// A decoder written out from its definition: one token at a time, in double, from decoded weights.
// Activations, keys and values are rounded where the runtime rounds them.
class ReferenceDecoder {
 public:
  ReferenceDecoder(const io::Package& package, kernels::KvType kv);
  // Appends a token and returns its logits.
  std::vector<double> step(int32_t token);

 private:
  struct Matrix {
    int64_t rows = 0, cols = 0;
    std::vector<float> w, bias;
    bool int8_activations = false;
  };
  struct Layer {
    int64_t heads, kv_heads;
    std::vector<float> attention_norm, ffn_norm;
    Matrix q, k, v, o, gate, up, down;
    std::vector<std::vector<double>> keys, values;  // by position: [kv_heads * head_dim]
  };
  Matrix load(const io::Package& package, const std::string& name, bool bias = false) const;
  std::vector<double> multiply(const Matrix& m, std::vector<double> x) const;
  std::vector<double> norm(const std::vector<double>& x, const std::vector<float>& weight) const;
  void rotate(std::vector<double>& heads, int64_t position) const;
  void round_kv(std::vector<double>& heads) const;
  std::vector<double> attention(Layer& layer, const std::vector<double>& x) const;

  io::DecoderConfig config_;
  kernels::KvType kv_;
  std::vector<float> frequencies_;
  Matrix embedding_, head_;
  std::vector<float> final_norm_;
  std::vector<Layer> layers_;
};

}  // namespace packlight::test
