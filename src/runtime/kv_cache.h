#pragma once

#include <cstdint>
#include <vector>

#include "io/decoder_config.h"
#include "kernels/kernels.h"
#include "runtime/memory.h"

namespace packlight::runtime {

// Keys and values of every layer, sequence and KV head: for each, `context` positions of head_dim
// elements, so that attention streams them. Memory becomes resident as positions are stored.
class KvCache {
 public:
  // Errors: OutOfMemory.
  KvCache(const io::DecoderConfig& config, kernels::KvType type, int sequences, int64_t context);

  kernels::KvView view(int64_t layer, int sequence, int64_t head) const;
  // Stores one position of one head; k and v: [head_dim] f32. Different (layer, sequence, head,
  // position) may be stored by different threads at once.
  void store(const kernels::Kernels& kernels, int64_t layer, int sequence, int64_t head,
             int64_t position, const float* k, const float* v);
  // Makes the first `length` positions of `to` equal to those of `from`.
  void copy(int from, int to, int64_t length);
  uint64_t size_bytes() const { return memory_.size_bytes(); }

 private:
  struct Head {
    std::byte *k, *v;
    float *k_scale, *v_scale;
  };
  const Head& head(int64_t layer, int sequence, int64_t head) const {
    return heads_[first_head_[layer] + sequence * kv_heads_[layer] + head];
  }
  uint64_t place(Carver carver);

  kernels::KvType type_;
  int sequences_;
  int64_t head_dim_, context_;
  std::vector<int64_t> kv_heads_, first_head_;  // by layer
  std::vector<Head> heads_;
  ZeroedMemory memory_;
};

}  // namespace packlight::runtime
