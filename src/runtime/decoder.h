#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "io/package.h"
#include "kernels/kernels.h"

namespace packlight::runtime {

struct DecoderOptions {
  int threads = 0;         // 0: one per processor
  int64_t context = 2048;  // positions per sequence
  int sequences = 1;       // KV caches
  kernels::KvType kv = kernels::KvType::kF16;
  int64_t max_batch_tokens = 512;  // tokens per forward(); scratch grows with it
};

// One token to run: which sequence it extends, and whether its logits are wanted.
struct DecoderToken {
  int32_t token;
  int32_t sequence;
  bool logits;
};

// Runs a packed decoder: forward() only, no sampling. Weights stay in the mapped package. One
// caller at a time.
class Decoder {
 public:
  // Errors: InvalidArgument (options out of range, a context that does not fit a sliding window we
  // lack), OutOfMemory.
  Decoder(std::shared_ptr<const io::Package> package, DecoderOptions options);
  ~Decoder();

  // Appends the tokens to their sequences (in order) and computes logits where wanted: row i of the
  // result belongs to the i-th token with logits = true. All weights are read once per call
  // whatever the number of sequences. The view is valid until the next call. Errors:
  // InvalidArgument for a token id out of range, a full context, more than max_batch_tokens;
  // nothing has changed then.
  std::span<const float> forward(std::span<const DecoderToken> tokens);  // [wanted, vocab_size] f32

  int64_t length(int sequence) const;           // positions held
  void truncate(int sequence, int64_t length);  // forgets positions from `length` on
  void copy_sequence(int from, int to);         // shares a prompt: copies the KV cache

  const io::DecoderConfig& config() const;
  const DecoderOptions& options() const;
  uint64_t weight_bytes_per_token()
      const;  // read for one token's step, embedding row and head included
  uint64_t kv_cache_bytes() const;
  base::ThreadPool& pool();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace packlight::runtime
