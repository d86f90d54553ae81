#include "runtime/generator.h"

#include <algorithm>
#include <utility>

#include "base/fail.h"
#include "base/interrupt.h"

namespace packlight::runtime {
namespace {

using Clock = std::chrono::steady_clock;

// Copying another sequence's cache pays once it saves this many tokens.
constexpr int64_t kWorthCopying = 8;

double seconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

int64_t common_prefix(std::span<const int32_t> a, std::span<const int32_t> b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

}  // namespace

struct Generator::Stream {
  Stream(size_t i, Input in, const text::Tokenizer& tokenizer)
      : index(i),
        request(*in.request),
        history(std::move(in.prompt)),
        sampler(request.sampling),
        decoder(tokenizer, /*continues=*/request.add_bos && !request.prompt.empty()),
        stops(request.stop) {
    result.prompt_tokens = static_cast<int64_t>(history.size());
  }
  size_t index;
  const Request& request;
  std::vector<int32_t> history;  // prompt, then what was generated
  Sampler sampler;
  text::StreamDecoder decoder;
  StopMatcher stops;
  Generation result;
  Clock::time_point start, prefilled;
  bool running = true;
};

Generator::Generator(Decoder& decoder, const text::Tokenizer& tokenizer,
                     std::vector<int32_t> end_tokens)
    : decoder_(decoder),
      tokenizer_(tokenizer),
      end_tokens_(std::move(end_tokens)),
      cached_(decoder.options().sequences) {}

bool Generator::is_cancelled() const {
  return cancelled_.load(std::memory_order_relaxed) || base::interrupted();
}

void Generator::check(std::span<const Input> inputs) const {
  const DecoderOptions& options = decoder_.options();
  if (inputs.size() > static_cast<size_t>(options.sequences)) {
    fail(ErrorCode::kInvalidArgument,
         "[session] {} requests at once, the session was opened for {} sequences", inputs.size(),
         options.sequences);
  }
  for (const Input& input : inputs) {
    const auto size = static_cast<int64_t>(input.prompt.size());
    if (size == 0) fail(ErrorCode::kInvalidArgument, "[session] the prompt holds no token");
    if (size > options.context) {
      fail(ErrorCode::kInvalidArgument, "[session] the prompt is {} tokens, the context holds {}",
           size, options.context);
    }
  }
}

std::vector<Generation> Generator::run(std::vector<Input> inputs, const TextCallback& on_text) {
  check(inputs);
  cancelled_.store(false, std::memory_order_relaxed);
  on_text_ = &on_text;
  std::vector<Stream> streams;
  streams.reserve(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i)
    streams.emplace_back(i, std::move(inputs[i]), tokenizer_);
  const Clock::time_point start = Clock::now();
  for (Stream& stream : streams) stream.start = stream.prefilled = start;
  prefill(streams);
  Step step;
  while (true) {
    step.tokens.clear();
    step.wanted.clear();
    for (Stream& stream : streams) {
      if (stream.running && is_cancelled()) end(stream, EndReason::kCancelled);
      if (!stream.running) continue;
      step.tokens.push_back({stream.history.back(), static_cast<int32_t>(stream.index), true});
      step.wanted.push_back(stream.index);
    }
    if (step.tokens.empty()) break;
    // Every running sequence takes part in one call, however many; only max_batch_tokens can force
    // pieces.
    const size_t most = decoder_.options().max_batch_tokens;
    for (size_t at = 0; at < step.tokens.size(); at += most) {
      const size_t count = std::min(most, step.tokens.size() - at);
      const std::span<const float> logits = forward(std::span(step.tokens).subspan(at, count));
      const size_t vocab = logits.size() / count;
      for (size_t i = 0; i < count; ++i)
        accept(streams[step.wanted[at + i]], logits.subspan(i * vocab, vocab));
    }
  }
  std::vector<Generation> results;
  for (Stream& stream : streams) results.push_back(std::move(stream.result));
  return results;
}

std::span<const float> Generator::forward(std::span<const DecoderToken> tokens) {
  const std::span<const float> logits = decoder_.forward(tokens);
  for (const DecoderToken& token : tokens) cached_[token.sequence].push_back(token.token);
  return logits;
}

void Generator::prefill(std::vector<Stream>& streams) {
  std::vector<DecoderToken> pending;
  for (size_t i = 0; i < streams.size(); ++i) prepare(streams, i, pending);
  run_prompts(streams, pending);
}

// Keeps of the sequence's cache what the prompt begins with, or copies it from a sequence that
// holds more, and queues the rest.
void Generator::prepare(std::vector<Stream>& streams, size_t index,
                        std::vector<DecoderToken>& pending) {
  const std::vector<int32_t>& prompt = streams[index].history;
  const auto last = static_cast<int64_t>(prompt.size()) - 1;  // must run: its logits are wanted
  const auto sequence = static_cast<int>(index);
  int64_t kept = std::min(last, common_prefix(prompt, cached_[sequence]));
  int source = -1;
  for (size_t other = 0; other < index; ++other) {
    const int64_t shared = std::min(last, common_prefix(prompt, streams[other].history));
    if (shared >= kept + kWorthCopying) {
      kept = shared;
      source = static_cast<int>(other);
    }
  }
  if (source >= 0) {
    run_prompts(streams, pending);
    kept = std::min(kept, decoder_.length(source));  // less when cancelled
    decoder_.copy_sequence(source, sequence);
    cached_[sequence] = cached_[source];
  }
  decoder_.truncate(sequence, kept);
  cached_[sequence].resize(kept);
  streams[index].result.reused_tokens = kept;
  for (int64_t i = kept; i <= last; ++i) pending.push_back({prompt[i], sequence, i == last});
}

// Runs the queued tokens in pieces and takes the first token of each prompt that ends in one.
void Generator::run_prompts(std::vector<Stream>& streams, std::vector<DecoderToken>& pending) {
  const size_t most = decoder_.options().max_batch_tokens;
  for (size_t at = 0; at < pending.size() && !is_cancelled(); at += most) {
    const std::span<const DecoderToken> piece =
        std::span(pending).subspan(at, std::min(most, pending.size() - at));
    std::span<const float> logits = forward(piece);
    const size_t vocab = decoder_.config().vocab_size;
    for (const DecoderToken& token : piece) {
      if (!token.logits) continue;
      Stream& stream = streams[token.sequence];
      stream.prefilled = Clock::now();
      stream.result.prefill_seconds = seconds(stream.start, stream.prefilled);
      accept(stream, logits.first(vocab));
      logits = logits.subspan(vocab);
    }
  }
  pending.clear();
}

void Generator::emit(Stream& stream, std::string_view text) {
  if (text.empty()) return;
  stream.result.text += text;
  if (*on_text_ && !(*on_text_)(stream.index, text)) end(stream, EndReason::kCancelled);
}

// Takes the next token of a sequence from its logits; the sequence ends or the token becomes the
// next to run.
void Generator::accept(Stream& stream, std::span<const float> logits) {
  if (!stream.running) return;
  const int64_t most = stream.request.max_tokens;
  if (most == 0) return end(stream, EndReason::kMaxTokens);
  // Rows past the tokenizer's last id only pad the matrix.
  const size_t known = std::min<size_t>(logits.size(), tokenizer_.vocab_size());
  const int32_t id = stream.sampler.sample(logits.first(known), stream.history);
  if (std::find(end_tokens_.begin(), end_tokens_.end(), id) != end_tokens_.end()) {
    return end(stream, EndReason::kEndToken);
  }
  stream.history.push_back(id);
  stream.result.tokens.push_back(id);
  emit(stream, stream.stops.push(stream.decoder.push(id)));
  if (!stream.running) return;
  if (stream.stops.stopped()) return end(stream, EndReason::kStopText);
  if (most > 0 && static_cast<int64_t>(stream.result.tokens.size()) >= most)
    return end(stream, EndReason::kMaxTokens);
  if (decoder_.length(static_cast<int>(stream.index)) >= decoder_.options().context) {
    end(stream, EndReason::kContextFull);
  }
}

void Generator::end(Stream& stream, EndReason reason) {
  if (!stream.running) return;
  stream.running = false;
  stream.result.end = reason;
  stream.result.decode_seconds = seconds(stream.prefilled, Clock::now());
  if (reason == EndReason::kStopText || reason == EndReason::kCancelled) return;
  std::string rest = stream.stops.push(stream.decoder.finish());
  if (!stream.stops.stopped()) rest += stream.stops.finish();
  emit(stream, rest);
}

}  // namespace packlight::runtime
