#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "codec/encoded_tensor.h"
#include "codec/sparse_tile.h"
#include "io/package.h"

namespace packlight::runtime {

// A matrix that multiplies activations: y = x W^T (+ bias). Views of the mapped package.
struct Linear {
  codec::EncodedTensor w;     // [out, in], tiles; without data when `sparse` has it
  codec::SparseTiles sparse;  // form kNone when the tiles are dense
  const float* bias = nullptr;
  bool int8_activations = false;  // x goes to INT8 first
};

struct LayerWeights {
  int64_t heads = 0, kv_heads = 0, ffn_size = 0;
  const float* attention_norm = nullptr;
  const float* ffn_norm = nullptr;
  Linear q, k, v, o, gate, up, down;
};

struct DecoderWeights {
  std::shared_ptr<const io::Package> package;  // keeps every view alive
  codec::EncodedTensor embedding;              // [vocab, hidden]
  std::vector<LayerWeights> layers;
  const float* final_norm = nullptr;
  Linear head;  // the embedding when tied
  uint64_t bytes_per_token = 0;
};

// Errors: Corrupt when a tensor is missing or its shape is not what the config says; Unsupported
// for a format that the kernels do not multiply (named, with the tensor).
DecoderWeights load_weights(std::shared_ptr<const io::Package> package);

}  // namespace packlight::runtime
