#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "packlight/session.h"
#include "runtime/decoder.h"
#include "runtime/sampler.h"
#include "runtime/stop_matcher.h"
#include "text/tokenizer.h"

namespace packlight::runtime {

using TextCallback = std::function<bool(size_t request, std::string_view text)>;

// Turns prompts (token ids) into generations: prefill with reuse of what the caches hold, then one
// token of every running sequence a step. Request i uses sequence i of the decoder.
class Generator {
 public:
  // end_tokens: generation ends at any of these. Both references must outlive this.
  Generator(Decoder& decoder, const text::Tokenizer& tokenizer, std::vector<int32_t> end_tokens);

  struct Input {
    const Request* request;
    std::vector<int32_t> prompt;
  };
  // Errors: InvalidArgument (empty prompt, longer than the context, more requests than sequences).
  std::vector<Generation> run(std::vector<Input> inputs, const TextCallback& on_text);

  void cancel() noexcept { cancelled_.store(true, std::memory_order_relaxed); }

 private:
  struct Stream;
  struct Step {
    std::vector<DecoderToken> tokens;
    std::vector<size_t> wanted;  // stream of each logits row
  };

  void check(std::span<const Input> inputs) const;
  void prefill(std::vector<Stream>& streams);
  void prepare(std::vector<Stream>& streams, size_t index, std::vector<DecoderToken>& pending);
  void run_prompts(std::vector<Stream>& streams, std::vector<DecoderToken>& pending);
  std::span<const float> forward(std::span<const DecoderToken> tokens);
  void accept(Stream& stream, std::span<const float> logits);
  void emit(Stream& stream, std::string_view text);
  void end(Stream& stream, EndReason reason);
  bool is_cancelled() const;

  Decoder& decoder_;
  const text::Tokenizer& tokenizer_;
  std::vector<int32_t> end_tokens_;
  std::vector<std::vector<int32_t>> cached_;  // ids whose keys and values each sequence holds
  std::atomic<bool> cancelled_{false};
  const TextCallback* on_text_ = nullptr;
};

}  // namespace packlight::runtime
