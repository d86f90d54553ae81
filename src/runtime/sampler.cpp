#include "runtime/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/fail.h"

namespace packlight::runtime {
namespace {

[[noreturn]] void fail_range(const char* name, double value, const char* rule) {
  fail(ErrorCode::kInvalidArgument, "[sampler] {} is {}, must be {}", name, value, rule);
}

[[noreturn]] void fail_logits(const char* what) {
  fail(ErrorCode::kInternal,
       "[sampler] the model produced {}: the package is damaged or its weights overflow", what);
}

// Weights below e^-32 of the largest are left out: a whole vocabulary of them has a probability
// below 1e-9, and most tokens of a real model are among them.
constexpr float kNegligible = 32;

// The largest logit. NaN fails every comparison, so it is counted apart. Sixteen lanes vectorise.
float largest_of(std::span<const float> logits) {
  constexpr size_t kLanes = 16;
  float lanes[kLanes];
  uint32_t bad[kLanes] = {};
  std::fill_n(lanes, kLanes, -std::numeric_limits<float>::infinity());
  size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float x = logits[i + lane];
      lanes[lane] = x > lanes[lane] ? x : lanes[lane];
      bad[lane] += x != x;
    }
  }
  for (; i < logits.size(); ++i) {
    lanes[0] = std::max(lanes[0], logits[i]);
    bad[0] += logits[i] != logits[i];
  }
  if (std::accumulate(bad, bad + kLanes, 0u) != 0) fail_logits("a logit that is not a number");
  return *std::max_element(lanes, lanes + kLanes);
}

// Most probable first, lower ids first among equals: the same order everywhere.
constexpr auto kMoreProbable = [](const auto& a, const auto& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
};

}  // namespace

Random::Random(uint64_t seed) {
  for (uint64_t& word : state_) {
    seed += 0x9e3779b97f4a7c15u;
    uint64_t z = seed;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    word = z ^ (z >> 31);
  }
}

uint64_t Random::next() {
  const uint64_t result = std::rotl(state_[1] * 5, 7) * 9, shifted = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= shifted;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

double Random::uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

int32_t argmax(std::span<const float> logits) {
  const float largest = largest_of(logits);
  return static_cast<int32_t>(std::find(logits.begin(), logits.end(), largest) - logits.begin());
}

Sampler::Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {
  const auto in = [](float value, float low, float high) { return value >= low && value <= high; };
  if (!in(options.temperature, 0, 1e6f))
    fail_range("temperature", options.temperature, "0 or more");
  if (options.top_k < 0) fail_range("top_k", options.top_k, "0 or more");
  if (!in(options.top_p, 0, 1)) fail_range("top_p", options.top_p, "0 to 1");
  if (!in(options.min_p, 0, 1)) fail_range("min_p", options.min_p, "0 to 1");
  if (!in(options.repeat_penalty, 1e-3f, 1e3f))
    fail_range("repeat_penalty", options.repeat_penalty, "0.001 to 1000");
  if (options.repeat_window < -1) fail_range("repeat_window", options.repeat_window, "-1 or more");
}

int32_t Sampler::sample(std::span<const float> logits, std::span<const int32_t> history) {
  if (options_.repeat_penalty != 1 && options_.repeat_window != 0 && !history.empty()) {
    penalized_.assign(logits.begin(), logits.end());
    penalize(history);
    logits = penalized_;
  }
  if (options_.temperature == 0) return argmax(logits);
  largest_ = largest_of(logits);
  if (!std::isfinite(largest_)) fail_logits("no finite logit");
  options_.top_k > 0 ? collect_top_k(logits) : collect(logits);
  weigh();
  keep_top_p();
  keep_min_p();
  return draw();
}

void Sampler::penalize(std::span<const int32_t> history) {
  if (options_.repeat_window > 0 && history.size() > static_cast<size_t>(options_.repeat_window)) {
    history = history.last(options_.repeat_window);
  }
  repeated_.assign(history.begin(), history.end());
  std::sort(repeated_.begin(), repeated_.end());
  repeated_.erase(std::unique(repeated_.begin(), repeated_.end()), repeated_.end());
  for (const int32_t id : repeated_) {
    float& logit = penalized_[id];
    logit = logit > 0 ? logit / options_.repeat_penalty : logit * options_.repeat_penalty;
  }
}

void Sampler::collect(std::span<const float> logits) {
  float reach = kNegligible;
  // Without top-p before it, min-p needs no sum; the margin leaves the decision at the edge to
  // keep_min_p().
  if (options_.top_p >= 1 && options_.min_p > 0)
    reach = std::min(reach, 0.01f - std::log(options_.min_p));
  const float least = largest_ - reach * options_.temperature;
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] >= least) candidates_.push_back({logits[i], static_cast<int32_t>(i)});
  }
}

// A heap with the least probable on top: nearly every token is refused after one comparison.
void Sampler::collect_top_k(std::span<const float> logits) {
  const size_t k = std::min<size_t>(options_.top_k, logits.size());
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    const Candidate candidate{logits[i], static_cast<int32_t>(i)};
    if (candidates_.size() == k) {
      if (candidate.logit <= candidates_.front().logit) continue;
      std::pop_heap(candidates_.begin(), candidates_.end(), kMoreProbable);
      candidates_.back() = candidate;
    } else {
      candidates_.push_back(candidate);
    }
    std::push_heap(candidates_.begin(), candidates_.end(), kMoreProbable);
  }
  std::sort(candidates_.begin(), candidates_.end(), kMoreProbable);
}

void Sampler::weigh() {
  weights_.resize(candidates_.size());
  for (size_t i = 0; i < candidates_.size(); ++i) weights_[i] = weight(candidates_[i].logit);
}

double Sampler::weight(float logit) const {
  return std::exp((static_cast<double>(logit) - largest_) / options_.temperature);
}

void Sampler::keep_top_p() {
  if (options_.top_p >= 1) return;
  const double target = options_.top_p * std::accumulate(weights_.begin(), weights_.end(), 0.0);
  // Few candidates usually suffice, so they are taken off a heap one by one instead of sorting the
  // vocabulary.
  const auto less_probable = [](const Candidate& a, const Candidate& b) {
    return kMoreProbable(b, a);
  };
  std::make_heap(candidates_.begin(), candidates_.end(), less_probable);
  auto end = candidates_.end();
  double reached = 0;
  std::vector<double> kept_weights;
  do {
    std::pop_heap(candidates_.begin(), end--, less_probable);
    kept_weights.push_back(weight(end->logit));
    reached += kept_weights.back();
  } while (reached < target && end != candidates_.begin());
  candidates_.erase(candidates_.begin(), end);
  std::reverse(candidates_.begin(),
               candidates_.end());  // they left the heap largest first, towards the back
  weights_ = std::move(kept_weights);
}

void Sampler::keep_min_p() {
  if (options_.min_p <= 0) return;
  size_t kept = 0;
  for (size_t i = 0; i < candidates_.size(); ++i) {
    if (weights_[i] < options_.min_p) continue;
    candidates_[kept] = candidates_[i];
    weights_[kept++] = weights_[i];
  }
  candidates_.resize(kept);
  weights_.resize(kept);
}

int32_t Sampler::draw() {
  const double total = std::accumulate(weights_.begin(), weights_.end(), 0.0);
  double left = random_.uniform() * total;
  for (size_t i = 0; i < candidates_.size(); ++i) {
    left -= weights_[i];
    if (left < 0) return candidates_[i].id;
  }
  // Rounding of the running difference can pass the end: the last that has weight.
  size_t last = candidates_.size() - 1;
  while (last > 0 && weights_[last] == 0) --last;
  return candidates_[last].id;
}

}  // namespace packlight::runtime
