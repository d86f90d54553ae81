#include "runtime/decoder.h"

#include <memory>

#include "base/fail.h"
#include "runtime/batch.h"
#include "runtime/forward_pass.h"
#include "runtime/kv_cache.h"
#include "runtime/weights.h"

namespace packlight::runtime {
namespace {

constexpr int kMaxThreads = 1024, kMaxSequences = 1 << 16;
constexpr int64_t kMaxContext = 1 << 28, kMaxBatch = 1 << 20;

void check_range(const char* name, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) {
    fail(ErrorCode::kInvalidArgument, "[runtime] {} is {}, must be {} to {}", name, value, low,
         high);
  }
}

DecoderOptions checked(const DecoderOptions& options) {
  check_range("threads", options.threads, 0, kMaxThreads);
  check_range("context", options.context, 1, kMaxContext);
  check_range("sequences", options.sequences, 1, kMaxSequences);
  check_range("max_batch_tokens", options.max_batch_tokens, 1, kMaxBatch);
  return options;
}

}  // namespace

struct Decoder::Impl {
  Impl(std::shared_ptr<const io::Package> package, const DecoderOptions& asked)
      : options(checked(asked)),
        weights(load_weights(std::move(package))),
        config(weights.package->config()),
        pool(options.threads),
        cache(config, options.kv, options.sequences, options.context),
        pass(weights, cache, pool, options.max_batch_tokens),
        lengths(options.sequences, 0) {
    options.threads = pool.size();
  }

  void check_sequence(int sequence) const {
    if (sequence < 0 || sequence >= options.sequences) {
      fail(ErrorCode::kInvalidArgument, "[runtime] sequence {} of {}", sequence, options.sequences);
    }
  }

  // Throws before anything has changed.
  void check(std::span<const DecoderToken> tokens) const {
    if (static_cast<int64_t>(tokens.size()) > options.max_batch_tokens) {
      fail(ErrorCode::kInvalidArgument, "[runtime] {} tokens in one call, max_batch_tokens is {}",
           tokens.size(), options.max_batch_tokens);
    }
    std::vector<int64_t> next = lengths;
    for (const DecoderToken& token : tokens) {
      check_sequence(token.sequence);
      if (token.token < 0 || token.token >= config.vocab_size) {
        fail(ErrorCode::kInvalidArgument, "[runtime] token id {} is outside the vocabulary of {}",
             token.token, config.vocab_size);
      }
      if (++next[token.sequence] > options.context) {
        fail(ErrorCode::kInvalidArgument, "[runtime] sequence {} is full: the context is {} tokens",
             token.sequence, options.context);
      }
    }
  }

  // Logits stay uninitialised until written: a whole batch of them is 100 MB for a vocabulary of
  // 49152.
  float* logits_for(uint64_t floats) {
    if (floats > logits_capacity) {
      logits.reset();
      logits_capacity = 0;
      logits.reset(new float[floats]);
      logits_capacity = floats;
    }
    return logits.get();
  }

  DecoderOptions options;
  DecoderWeights weights;
  const io::DecoderConfig& config;
  base::ThreadPool pool;
  KvCache cache;
  ForwardPass pass;
  Batch batch;
  std::vector<int64_t> lengths;
  std::unique_ptr<float[]> logits;
  uint64_t logits_capacity = 0;
};

Decoder::Decoder(std::shared_ptr<const io::Package> package, DecoderOptions options)
    : impl_(std::make_unique<Impl>(std::move(package), options)) {}

Decoder::~Decoder() = default;

std::span<const float> Decoder::forward(std::span<const DecoderToken> tokens) {
  Impl& m = *impl_;
  m.check(tokens);
  if (tokens.empty()) return {};
  m.batch.assign(tokens, m.lengths, m.config.sliding_window);
  const uint64_t floats = m.batch.wanted.size() * m.config.vocab_size;
  float* logits = m.logits_for(floats);
  m.pass.run(m.batch, logits);
  for (const DecoderToken& token : tokens) ++m.lengths[token.sequence];
  return {logits, floats};
}

int64_t Decoder::length(int sequence) const {
  impl_->check_sequence(sequence);
  return impl_->lengths[sequence];
}

void Decoder::truncate(int sequence, int64_t length) {
  impl_->check_sequence(sequence);
  check_range("length to keep", length, 0, impl_->lengths[sequence]);
  impl_->lengths[sequence] = length;
}

void Decoder::copy_sequence(int from, int to) {
  impl_->check_sequence(from);
  impl_->check_sequence(to);
  if (from == to) return;
  impl_->cache.copy(from, to, impl_->lengths[from]);
  impl_->lengths[to] = impl_->lengths[from];
}

const io::DecoderConfig& Decoder::config() const { return impl_->config; }
const DecoderOptions& Decoder::options() const { return impl_->options; }
uint64_t Decoder::weight_bytes_per_token() const { return impl_->weights.bytes_per_token; }
uint64_t Decoder::kv_cache_bytes() const { return impl_->cache.size_bytes(); }
base::ThreadPool& Decoder::pool() { return impl_->pool; }

}  // namespace packlight::runtime
