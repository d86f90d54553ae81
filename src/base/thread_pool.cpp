#include "base/thread_pool.h"

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace packlight::base {
namespace {

// About 50 us of pauses on current cores: longer than the gaps inside a token, far shorter than a tick.
constexpr int kSpins = 2000;

inline void cpu_pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Returns once `word` differs from `old`: spins, then sleeps.
uint32_t wait_change(const std::atomic<uint32_t>& word, uint32_t old) {
  for (int i = 0; i < kSpins; ++i) {
    const uint32_t now = word.load(std::memory_order_acquire);
    if (now != old) return now;
    cpu_pause();
  }
  word.wait(old, std::memory_order_acquire);
  return word.load(std::memory_order_acquire);
}

}  // namespace

struct ThreadPool::State {
  std::vector<std::thread> threads;
  const std::function<void(int)>* job = nullptr;
  alignas(64) std::atomic<uint32_t> start{0};       // counts run() calls; the top bit is unused
  alignas(64) std::atomic<uint32_t> running{0};     // workers still inside the job
  alignas(64) std::atomic<uint32_t> arrived{0};     // barrier
  alignas(64) std::atomic<uint32_t> generation{0};  // barrier
  std::atomic<bool> stop{false};
  std::mutex error_mutex;
  std::exception_ptr error;

  void call(int worker) noexcept {
    try {
      (*job)(worker);
    } catch (...) {
      std::lock_guard lock(error_mutex);
      if (!error) error = std::current_exception();
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  if (threads <= 0) threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  size_ = threads;
  for (int worker = 1; worker < threads; ++worker) {
    state_->threads.emplace_back([this, worker] {
      State& s = *state_;
      uint32_t seen = 0;
      while (true) {
        while (s.start.load(std::memory_order_acquire) == seen) wait_change(s.start, seen);
        ++seen;
        if (s.stop.load(std::memory_order_acquire)) return;
        s.call(worker);
        if (s.running.fetch_sub(1, std::memory_order_acq_rel) == 1) s.running.notify_all();
      }
    });
  }
}

ThreadPool::~ThreadPool() {
  state_->stop.store(true, std::memory_order_release);
  state_->start.fetch_add(1, std::memory_order_release);
  state_->start.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
}

void ThreadPool::run(const std::function<void(int)>& fn) {
  State& s = *state_;
  s.job = &fn;
  s.error = nullptr;
  if (size_ > 1) {
    s.running.store(size_ - 1, std::memory_order_relaxed);
    s.start.fetch_add(1, std::memory_order_release);
    s.start.notify_all();
  }
  s.call(0);
  if (size_ > 1) {
    for (uint32_t left = s.running.load(std::memory_order_acquire); left != 0;) {
      left = wait_change(s.running, left);
    }
  }
  if (s.error) std::rethrow_exception(std::exchange(s.error, nullptr));
}

void ThreadPool::barrier() {
  if (size_ == 1) return;
  State& s = *state_;
  const uint32_t generation = s.generation.load(std::memory_order_acquire);
  if (s.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<uint32_t>(size_)) {
    s.arrived.store(0, std::memory_order_relaxed);
    s.generation.fetch_add(1, std::memory_order_acq_rel);
    s.generation.notify_all();
    return;
  }
  while (s.generation.load(std::memory_order_acquire) == generation) {
    wait_change(s.generation, generation);
  }
}

}  // namespace packlight::base
