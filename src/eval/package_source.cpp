#include <algorithm>
#include <vector>

#include "eval/logit_source.h"
#include "runtime/decoder.h"

namespace packlight::eval {
namespace {

constexpr int64_t kBatchTokens = 512;

class PackageSource : public LogitSource {
 public:
  PackageSource(std::shared_ptr<const io::Package> package, int64_t context, int threads)
      : path_(package->path()), decoder_(std::move(package), {.threads = threads,
                                      .context = context,
                                      .max_batch_tokens = std::min(context, kBatchTokens)}) {}

  int64_t vocab_size() const override { return decoder_.config().vocab_size; }

  void begin(std::span<const text::TokenId> windows, int64_t length, int64_t /*first*/) override {
    check_window(path_, decoder_.config(), length);
    windows_ = windows;
    length_ = length;
    window_ = -1;
  }

  // Runs what comes before the rows in the same batches as the rows themselves.
  std::span<const float> rows(int64_t window, int64_t begin, int64_t end) override {
    if (window != window_) decoder_.truncate(0, 0);
    window_ = window;
    std::span<const float> batch;
    logits_.clear();
    const int64_t largest = decoder_.options().max_batch_tokens;
    for (int64_t at = decoder_.length(0); at < end;) {
      const int64_t stop = std::min(at + largest, end);
      batch = run(at, stop, begin);
      if (stop < end) logits_.insert(logits_.end(), batch.begin(), batch.end());
      at = stop;
    }
    if (logits_.empty()) return batch;
    logits_.insert(logits_.end(), batch.begin(), batch.end());
    return logits_;
  }

 private:
  std::span<const float> run(int64_t at, int64_t stop, int64_t first_wanted) {
    tokens_.clear();
    for (int64_t p = at; p < stop; ++p) {
      tokens_.push_back({windows_[window_ * length_ + p], 0, p >= first_wanted});
    }
    return decoder_.forward(tokens_);
  }

  std::filesystem::path path_;
  runtime::Decoder decoder_;
  std::span<const text::TokenId> windows_;
  int64_t length_ = 0, window_ = -1;
  std::vector<runtime::DecoderToken> tokens_;
  std::vector<float> logits_;
};

}  // namespace

std::unique_ptr<LogitSource> package_source(std::shared_ptr<const io::Package> package, int64_t context, int threads) {
  return std::make_unique<PackageSource>(std::move(package), context, threads);
}

}  // namespace packlight::eval
