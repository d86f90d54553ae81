#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "packlight/error.h"

// Runs a language model package (.plk) on this device: text in, text out.
//
//   packlight::Session session("model.plk");
//   packlight::Request request{.prompt = session.render_chat({{"user", "Why is the sky blue?"}})};
//   session.generate(request, [](std::string_view text) { std::cout << text << std::flush; return
//   true; });

namespace packlight {

// How keys and values are kept: 2 bytes an element, or 1 byte and a scale per position and head.
enum class KvCacheFormat { kF16, kInt8 };

struct SessionOptions {
  int threads = 0;      // 0: one per processor
  int64_t context = 0;  // positions per sequence; 0: the model's own, at most 2048
  int sequences = 1;    // how many generate together
  KvCacheFormat kv = KvCacheFormat::kF16;
  int64_t max_batch_tokens =
      512;  // longer prompts are run in pieces of this size; scratch memory grows with it
};

// How the next token is drawn. In this order: repetition penalty, temperature, top-k, top-p, min-p,
// draw. Each of top-k, top-p and min-p sees what the ones before it left, renormalised; at least
// one token always stays.
struct SamplingOptions {
  float temperature = 0;  // 0: the most probable token (lowest id when equal), nothing is drawn
  int top_k = 0;          // keep the k most probable; 0: all
  float top_p = 1;        // keep the fewest whose probabilities reach p; 1: all
  float min_p = 0;        // keep those with at least this share of the largest probability; 0: all
  float repeat_penalty =
      1;  // logits of repeated tokens: divided by this when positive, multiplied when not; 1: off
  int repeat_window =
      64;  // how many of the last tokens count as repeated, the prompt's included; -1: all
  uint64_t seed = 0;  // the same seed, options and prompt give the same tokens
};

struct Request {
  std::string prompt;   // control tokens written in it ("<|im_start|>") are recognised
  // Prepend the begin token where the model asks for it; false for rendered chats, which hold it.
  // Then the result is an answer and begins without the space that SentencePiece writes before a
  // first word; else it goes on where the prompt ends, with every space.
  bool add_bos = true;
  int64_t max_tokens = -1;  // -1: until the model ends or the context is full
  SamplingOptions sampling;
  std::vector<std::string>
      stop;  // generation ends before any of these texts; they are not part of the answer
};

enum class EndReason {
  kEndToken,     // the model ended its answer
  kStopText,     // one of Request::stop came
  kMaxTokens,    // Request::max_tokens reached
  kContextFull,  // no position is left for another token
  kCancelled,    // the callback returned false, or cancel()
};
// "end_token", "stop_text", "max_tokens", "context_full", "cancelled".
const char* end_reason_name(EndReason reason) noexcept;

struct Generation {
  std::string text;             // all that was streamed
  std::vector<int32_t> tokens;  // generated ids, the end token not included
  EndReason end = EndReason::kMaxTokens;
  int64_t prompt_tokens = 0;   // of the whole prompt
  int64_t reused_tokens = 0;   // of these, found in the cache from the call before
  double prefill_seconds = 0;  // until the prompt has run (shared by requests run together)
  double decode_seconds = 0;   // from then to the end
};

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

// What a package is; for people and for metrics.
struct ModelFacts {
  std::string name, family;
  int64_t layers = 0, hidden_size = 0, vocab_size = 0, max_positions = 0;
  uint64_t package_bytes = 0, weight_bytes_per_token = 0, kv_cache_bytes = 0;
  bool has_chat_template = false;
};

// A loaded model with its caches. One caller at a time, except cancel(). Errors are
// packlight::Error.
class Session {
 public:
  // Maps the package. Errors: NotFound, Io, Corrupt, Unsupported (a file that is no package: says
  // what to do), InvalidArgument (options out of range, a context beyond what the model was trained
  // for), OutOfMemory.
  explicit Session(const std::string& path, SessionOptions options = {});
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  // Continues a prompt. `on_text` gets pieces of whole UTF-8 characters as they become certain
  // (text that may turn out to be the beginning of a stop string is held back); returning false
  // cancels. What the prompt shares with the previous one of this session is not run again. Errors:
  // InvalidArgument for an empty prompt, options out of range, a prompt longer than the context.
  Generation generate(const Request& request,
                      const std::function<bool(std::string_view)>& on_text = nullptr);

  // The same for several requests at once, at most SessionOptions::sequences: their tokens run
  // together, so that the weights are read once for all. Each result is what generate() gives
  // alone, up to float rounding of the model.
  std::vector<Generation> generate_together(
      std::span<const Request> requests,
      const std::function<bool(size_t request, std::string_view text)>& on_text = nullptr);

  // Ends the running generate() after its current token. From any thread or a signal handler.
  void cancel() noexcept;

  // The prompt of a conversation in the model's own chat format, the assistant's turn opened. Use
  // with add_bos = false. Errors: Unsupported when the model has no template or one of an unknown
  // family.
  std::string render_chat(std::span<const ChatMessage> messages) const;
  std::string render_chat(std::initializer_list<ChatMessage> messages) const {
    return render_chat(std::span<const ChatMessage>(messages.begin(), messages.size()));
  }

  std::vector<int32_t> tokenize(std::string_view text, bool add_bos = true) const;
  std::string detokenize(std::span<const int32_t> tokens) const;

  const ModelFacts& facts() const;
  const SessionOptions& options() const;  // with the defaults filled in

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace packlight
