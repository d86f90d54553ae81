#pragma once

#include <cstdint>
#include <vector>

#include "base/thread_pool.h"
#include "io/decoder_config.h"
#include "kernels/kernels.h"
#include "runtime/batch.h"
#include "runtime/kv_cache.h"
#include "runtime/linear.h"
#include "runtime/memory.h"
#include "runtime/weights.h"

namespace packlight::runtime {

// The arithmetic of a decoder: one call runs a batch through every layer on all workers of the
// pool, which meet only at barriers. Each worker owns a contiguous share of row tiles, attention
// rows or tokens; a result never depends on how many workers there are, because every output
// element is computed by one worker in one order.
//
// Barriers a layer, few tokens: projections | keys stored | attention | output | gate and up |
// down. Many tokens: two more, as norms are then shared out instead of repeated on every worker.
class ForwardPass {
 public:
  ForwardPass(const DecoderWeights& weights, KvCache& cache, base::ThreadPool& pool,
              int64_t max_tokens);

  // logits: [batch.wanted.size(), vocab_size].
  void run(const Batch& batch, float* logits);

 private:
  // Query rows given to the attention kernel at once: what it handles as one block, and a bound on
  // its scratch.
  static constexpr int64_t kAttentionRows = 64;
  // Up to here the kernel treats each row by itself, so that a cut between any two changes no
  // result.
  static constexpr int64_t kSeparateRows = 8;

  struct Worker {
    LinearInput input;  // a private copy of the current input, for few tokens
    float *gate = nullptr, *up = nullptr, *attention = nullptr;
    uint8_t* expanded = nullptr;  // tiles of a pruned matrix
  };

  uint64_t place(Carver carver);
  LinearInput place_input(Carver& carver, int64_t tokens, int64_t cols, bool int8) const;
  static LinearInput narrow(const LinearInput& input, int64_t tokens, int64_t cols,
                            InputForms forms);

  void run_worker(int worker);
  void embed(int worker);
  void attention_block(int64_t layer, int worker);
  void ffn_block(int64_t layer, int worker);
  void head(int worker);

  // RMS norm of every row of x_ in the forms asked for; meets the others only when the rows are
  // shared out.
  LinearInput normalized(int worker, const float* norm, InputForms forms);
  void project(int64_t layer, const LinearInput& input, int worker);
  void store_keys(int64_t layer, int worker);
  void keep_wanted_rows(int64_t layer);
  void attend(int64_t layer, int worker);
  void attend_rows(int64_t layer, int64_t head, Span rows, int worker);
  int64_t first_attention_row(const LayerWeights& w, int worker) const;
  int64_t nearest_attention_cut(int64_t row, int64_t group) const;
  LinearInput attention_output(int64_t layer, int worker);
  void gate_and_up(int64_t layer, const LinearInput& input, int worker);
  void add_to_residual(const Linear& linear, const LinearInput& input, int worker);

  const DecoderWeights& weights_;
  const io::DecoderConfig& config_;
  KvCache& cache_;
  base::ThreadPool& pool_;
  const kernels::Kernels& kernels_;
  int64_t max_tokens_;
  std::vector<float> inverse_frequencies_;

  ZeroedMemory memory_;
  float* x_ = nullptr;      // [tokens, hidden] residual stream
  float* delta_ = nullptr;  // [tokens, hidden] what a block adds to it
  float *q_ = nullptr, *k_ = nullptr, *v_ = nullptr;
  float *cosine_ = nullptr, *sine_ = nullptr;  // [tokens, head_dim / 2]
  LinearInput norm_, attended_, activated_;
  std::vector<Worker> workers_;

  const Batch* batch_ = nullptr;
  const BatchRows* rows_ =
      nullptr;  // the rows that work goes on with: all, in the end only the wanted
  float* logits_ = nullptr;
};

}  // namespace packlight::runtime
