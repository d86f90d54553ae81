#include <benchmark/benchmark.h>

#include <cmath>
#include <random>
#include <vector>

#include "base/thread_pool.h"
#include "runtime/sampler.h"

// What a token costs beside its weights. Whole models: `packlight bench`.

namespace packlight {
namespace {

// One meeting of all workers; a decoder layer has six.
void barrier(benchmark::State& state) {
  base::ThreadPool pool(static_cast<int>(state.range(0)));
  constexpr int kMeetings = 1000;
  for (auto _ : state) {
    pool.run([&](int) {
      for (int i = 0; i < kMeetings; ++i) pool.barrier();
    });
  }
  state.SetItemsProcessed(state.iterations() * kMeetings);
}
BENCHMARK(barrier)->Arg(1)->Arg(2)->UseRealTime();

// Starting the workers and waiting for them; once a token.
void start_workers(benchmark::State& state) {
  base::ThreadPool pool(static_cast<int>(state.range(0)));
  for (auto _ : state) pool.run([](int) {});
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(start_workers)->Arg(1)->Arg(2)->UseRealTime();

std::vector<float> random_logits() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> logits(49152);
  for (float& x : logits) x = normal(random);
  return logits;
}

void sample(benchmark::State& state, const SamplingOptions& options) {
  const std::vector<float> logits = random_logits();
  std::vector<int32_t> history(64, 5);
  runtime::Sampler sampler(options);
  const int32_t id = sampler.sample(logits, history);
  if (id < 0 || id >= 49152) return state.SkipWithError("sampled no token");
  for (auto _ : state) benchmark::DoNotOptimize(sampler.sample(logits, history));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK_CAPTURE(sample, greedy, SamplingOptions{});
BENCHMARK_CAPTURE(sample, top_k_40,
                  SamplingOptions{.temperature = 0.8f, .top_k = 40, .top_p = 0.95f});
BENCHMARK_CAPTURE(sample, top_p, SamplingOptions{.temperature = 0.8f, .top_p = 0.95f});
BENCHMARK_CAPTURE(sample, min_p, SamplingOptions{.temperature = 0.8f, .min_p = 0.05f});

}  // namespace
}  // namespace packlight
