#include "runtime/forward_pass.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "codec/tile.h"

namespace packlight::runtime {
namespace {

constexpr int64_t kBlock = codec::kColumnAlign;
constexpr int64_t kTilesPerBlock = kBlock / codec::kTileRows;

// Up to this many tokens every worker normalizes all rows itself: cheaper than meeting the others.
constexpr int64_t kRepeatedTokens = 2;

// Gate and up are computed a few columns at a time so that they stay in the cache until they are
// combined; for few tokens in one go.
constexpr int64_t kFewTokens = 8, kFfnBlocksAtOnce = 2;

int64_t ffn_blocks_at_once(int64_t tokens, int64_t blocks) {
  return tokens <= kFewTokens ? blocks : std::min(blocks, kFfnBlocksAtOnce);
}

int64_t largest(const std::vector<int64_t>& values) {
  return *std::max_element(values.begin(), values.end());
}

// Scratch of multiply() for any matrix of the model.
int64_t largest_expansion(const DecoderWeights& weights) {
  int64_t bytes = expansion_bytes(weights.head);
  for (const LayerWeights& w : weights.layers) {
    for (const Linear* linear : {&w.q, &w.k, &w.v, &w.o, &w.gate, &w.up, &w.down})
      bytes = std::max(bytes, expansion_bytes(*linear));
  }
  return bytes;
}

Span shared_tiles(const codec::EncodedTensor& w, int worker, int workers) {
  return split(codec::row_tiles(w.rows), worker, workers);
}

}  // namespace

ForwardPass::ForwardPass(const DecoderWeights& weights, KvCache& cache, base::ThreadPool& pool,
                         int64_t max_tokens)
    : weights_(weights),
      config_(weights.package->config()),
      cache_(cache),
      pool_(pool),
      kernels_(kernels::active()),
      max_tokens_(max_tokens),
      inverse_frequencies_(io::rotary_inverse_frequencies(config_)),
      workers_(pool.size()) {
  memory_ = ZeroedMemory(place(Carver(nullptr)), "activations");
  place(Carver(memory_.data()));
}

LinearInput ForwardPass::place_input(Carver& carver, int64_t tokens, int64_t cols,
                                     bool int8) const {
  LinearInput input;
  const int64_t padded = codec::padded_cols(cols);
  input.f32 = carver.take<float>(Carver::checked_mul(tokens, padded));
  if (int8) {
    input.int8.q = carver.take<int8_t>(Carver::checked_mul(tokens, padded));
    input.int8.scale = carver.take<float>(Carver::checked_mul(tokens, padded / kBlock));
    input.int8.sum = carver.take<int32_t>(Carver::checked_mul(tokens, padded / kBlock));
  }
  return input;
}

uint64_t ForwardPass::place(Carver carver) {
  const int64_t hidden = config_.hidden_size, dim = config_.head_dim,
                ffn = largest(config_.ffn_size);
  const int64_t q = largest(config_.heads) * dim, kv = largest(config_.kv_heads) * dim;
  const auto rows = [&](int64_t cols) { return Carver::checked_mul(max_tokens_, cols); };
  x_ = carver.take<float>(rows(hidden));
  delta_ = carver.take<float>(rows(hidden));
  q_ = carver.take<float>(rows(codec::padded_cols(q)));
  k_ = carver.take<float>(rows(kv));
  v_ = carver.take<float>(rows(kv));
  cosine_ = carver.take<float>(rows(dim / 2));
  sine_ = carver.take<float>(rows(dim / 2));
  norm_ = place_input(carver, max_tokens_, hidden, true);
  attended_ = place_input(carver, max_tokens_, q, true);
  activated_ = place_input(carver, max_tokens_, ffn, true);
  const int64_t few = std::min(max_tokens_, kFewTokens) * codec::padded_cols(ffn);
  const int64_t ffn_floats = std::max<int64_t>(few, max_tokens_ * kFfnBlocksAtOnce * kBlock);
  const int64_t expanded = largest_expansion(weights_);
  for (Worker& worker : workers_) {
    worker.expanded = carver.take<uint8_t>(expanded);
    worker.input = place_input(carver, kRepeatedTokens, hidden, true);
    worker.gate = carver.take<float>(ffn_floats);
    worker.up = carver.take<float>(ffn_floats);
    worker.attention = carver.take<float>(kernels::attention_scratch_floats(kAttentionRows, dim));
  }
  return carver.used();
}

LinearInput ForwardPass::narrow(const LinearInput& input, int64_t tokens, int64_t cols,
                                InputForms forms) {
  LinearInput result = input;
  result.tokens = result.int8.tokens = tokens;
  result.ld = result.int8.padded_cols = codec::padded_cols(cols);
  if (!forms.int8) result.int8.q = nullptr;
  return result;
}

void ForwardPass::run(const Batch& batch, float* logits) {
  batch_ = &batch;
  rows_ = &batch.all;
  logits_ = logits;
  pool_.run([this](int worker) { run_worker(worker); });
}

void ForwardPass::run_worker(int worker) {
  embed(worker);
  pool_.barrier();
  const int64_t layers = config_.layers();
  for (int64_t layer = 0; layer < layers; ++layer) {
    attention_block(layer, worker);
    if (layer + 1 == layers && batch_->wanted.size() == 0) return;
    ffn_block(layer, worker);
  }
  head(worker);
}

void ForwardPass::embed(int worker) {
  const int64_t half = config_.head_dim / 2;
  const Span tokens = split(batch_->all.size(), worker, pool_.size());
  for (int64_t t = tokens.begin; t < tokens.end; ++t) {
    const int64_t id = batch_->ids[t];
    float* row = x_ + t * config_.hidden_size;
    codec::decode_tile_row(weights_.embedding, id, row);
    const auto position = static_cast<float>(batch_->all.end[t] - 1);
    for (int64_t i = 0; i < half; ++i) {
      const double angle = position * inverse_frequencies_[i];
      cosine_[t * half + i] = static_cast<float>(std::cos(angle));
      sine_[t * half + i] = static_cast<float>(std::sin(angle));
    }
  }
}

LinearInput ForwardPass::normalized(int worker, const float* norm, InputForms forms) {
  const int64_t hidden = config_.hidden_size, tokens = rows_->size();
  const bool repeated = tokens <= kRepeatedTokens;
  const LinearInput out = narrow(repeated ? workers_[worker].input : norm_, tokens, hidden, forms);
  const Span rows = repeated ? Span{0, tokens} : split(tokens, worker, pool_.size());
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    float* row = out.f32 + t * out.ld;
    kernels_.rms_norm(x_ + t * hidden, norm, hidden, static_cast<float>(config_.rms_epsilon), row);
    std::fill(row + hidden, row + out.ld, 0.f);
    if (forms.int8) kernels_.quantize_activations(row, hidden, t, out.int8);
  }
  if (!repeated) pool_.barrier();
  return out;
}

void ForwardPass::add_to_residual(const Linear& linear, const LinearInput& input, int worker) {
  const Span tiles = shared_tiles(linear.w, worker, pool_.size());
  if (tiles.empty()) return;
  const int64_t hidden = config_.hidden_size, column = tiles.begin * codec::kTileRows;
  const int64_t count = std::min(hidden, tiles.end * codec::kTileRows) - column;
  multiply(kernels_, linear, input, tiles, delta_ + column, hidden, workers_[worker].expanded);
  for (int64_t t = 0; t < input.tokens; ++t) {
    kernels_.add(delta_ + t * hidden + column, count, x_ + t * hidden + column);
  }
}

void ForwardPass::ffn_block(int64_t layer, int worker) {
  const LayerWeights& w = weights_.layers[layer];
  InputForms forms, down_forms;
  forms.add(w.gate);
  forms.add(w.up);
  down_forms.add(w.down);
  gate_and_up(layer, normalized(worker, w.ffn_norm, forms), worker);
  pool_.barrier();
  add_to_residual(w.down, narrow(activated_, rows_->size(), w.ffn_size, down_forms), worker);
  pool_.barrier();
}

void ForwardPass::gate_and_up(int64_t layer, const LinearInput& input, int worker) {
  const LayerWeights& w = weights_.layers[layer];
  Worker& mine = workers_[worker];
  InputForms forms;
  forms.add(w.down);
  const LinearInput out = narrow(activated_, input.tokens, w.ffn_size, forms);
  const Span blocks = split(codec::padded_cols(w.ffn_size) / kBlock, worker, pool_.size());
  const int64_t step = ffn_blocks_at_once(input.tokens, blocks.end - blocks.begin);
  for (int64_t b = blocks.begin; b < blocks.end; b += step) {
    const int64_t last = std::min(blocks.end, b + step), column = b * kBlock,
                  ld = (last - b) * kBlock;
    const int64_t count = std::min(w.ffn_size, last * kBlock) - column;
    const Span tiles = {b * kTilesPerBlock,
                        std::min(last * kTilesPerBlock, codec::row_tiles(w.ffn_size))};
    multiply(kernels_, w.gate, input, tiles, mine.gate, ld, mine.expanded);
    multiply(kernels_, w.up, input, tiles, mine.up, ld, mine.expanded);
    for (int64_t t = 0; t < input.tokens; ++t) {
      float* row = mine.gate + t * ld;
      kernels_.silu_mul(row, mine.up + t * ld, count);
      if (forms.int8) {
        quantize_columns(kernels_, row, column, count, t, out.int8);
      } else {
        float* to = out.f32 + t * out.ld + column;
        std::copy_n(row, count, to);
        std::fill(to + count, to + ld, 0.f);
      }
    }
  }
}

void ForwardPass::head(int worker) {
  InputForms forms;
  forms.add(weights_.head);
  const LinearInput input = normalized(worker, weights_.final_norm, forms);
  const Span tiles = shared_tiles(weights_.head.w, worker, pool_.size());
  multiply(kernels_, weights_.head, input, tiles, logits_ + tiles.begin * codec::kTileRows,
           config_.vocab_size, workers_[worker].expanded);
}

}  // namespace packlight::runtime
