#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "import/import.h"
#include "io/package.h"
#include "text/tokenizer.h"

namespace packlight::eval {

// Something that gives logits for windows of tokens, each from an empty context: a model as it will be judged. One caller at
// a time. Use: begin() with some windows, then rows() for each window in order, positions ascending.
class LogitSource {
 public:
  virtual ~LogitSource() = default;
  virtual int64_t vocab_size() const = 0;
  // How many windows begin() likes at once, at least 1: more amortise what a pass over the weights costs.
  virtual int64_t windows_per_pass() const { return 1; }
  // windows: [count, length] row-major token ids, valid until the last rows(). Positions below `first` of each are not
  // wanted. Errors: InvalidArgument for ids outside the vocabulary or a window the model cannot hold.
  virtual void begin(std::span<const text::TokenId> windows, int64_t length, int64_t first) = 0;
  // Logits of positions [begin, end) of a window, [end - begin, vocab_size] f32 row-major; begin is `first` or where the
  // previous call for this window ended. Valid until the next call of anything.
  virtual std::span<const float> rows(int64_t window, int64_t begin, int64_t end) = 0;
  // Called when logits were not finite. Errors: Corrupt naming a weight that is not, where the source can tell.
  virtual void check_weights() const {}
};

// Errors: InvalidArgument for a window longer than the model has positions.
void check_window(const std::filesystem::path& model, const io::DecoderConfig& config, int64_t length);

// A graph run by exec/: hidden states of the whole window, the head on the rows asked for only. `model` must outlive the source.
// Where F32 copies of all weights fit in `weight_cache_bytes` they are kept; otherwise weights are decoded block by block,
// once for a group of windows. Errors: Unsupported when the graph's output is not a linear map of a hidden state.
std::unique_ptr<LogitSource> graph_source(const import::LanguageModel& model, uint64_t weight_cache_bytes);

// A package run by runtime::Decoder, F16 KV cache. threads 0: all processors. `context` is the longest window.
std::unique_ptr<LogitSource> package_source(std::shared_ptr<const io::Package> package, int64_t context, int threads);

}  // namespace packlight::eval
