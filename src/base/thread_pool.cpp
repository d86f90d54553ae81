#include "base/thread_pool.h"

#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <climits>
#include <exception>
#include <mutex>
#include <thread>
#include <system_error>
#include <utility>
#include <vector>

#include "base/fail.h"

namespace packlight::base {
namespace {

// About 50 us of pauses on current cores: longer than the gaps inside a token, far shorter than a
// tick.
constexpr int kSpins = 2000;

inline void cpu_pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A counter that threads wait on: they spin, then sleep in the kernel. std::atomic::wait() would
// yield in between, which on a busy machine hands the processor away for a whole round of the
// others at every barrier.
struct alignas(64) WaitWord {
  std::atomic<uint32_t> value{0};
  std::atomic<uint32_t> sleepers{0};

  // Returns once the value differs from `old`.
  uint32_t wait_change(uint32_t old) {
    for (int i = 0; i < kSpins; ++i) {
      const uint32_t now = value.load(std::memory_order_acquire);
      if (now != old) return now;
      cpu_pause();
    }
    // Sequentially consistent with wake(): either it sees this sleeper or this sees its value.
    sleepers.fetch_add(1, std::memory_order_seq_cst);
    uint32_t now = value.load(std::memory_order_seq_cst);
    while (now == old) {
      sleep_while(old);
      now = value.load(std::memory_order_seq_cst);
    }
    sleepers.fetch_sub(1, std::memory_order_relaxed);
    return now;
  }

  // After a sequentially consistent change of the value.
  void wake() {
    if (sleepers.load(std::memory_order_seq_cst) == 0) return;
#ifdef __linux__
    syscall(SYS_futex, &value, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
#else
    value.notify_all();
#endif
  }

 private:
  void sleep_while(uint32_t old) {
#ifdef __linux__
    syscall(SYS_futex, &value, FUTEX_WAIT_PRIVATE, old, nullptr, nullptr, 0);
#else
    value.wait(old, std::memory_order_seq_cst);
#endif
  }
};

}  // namespace

struct ThreadPool::State {
  std::vector<std::thread> threads;
  const std::function<void(int)>* job = nullptr;
  WaitWord start;                                // counts run() calls
  WaitWord running;                              // workers still inside the job
  alignas(64) std::atomic<uint32_t> arrived{0};  // barrier
  WaitWord generation;                           // barrier
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

  void work(int worker) {
    uint32_t seen = 0;
    while (true) {
      start.wait_change(seen);
      ++seen;
      if (stop.load(std::memory_order_acquire)) return;
      call(worker);
      if (running.value.fetch_sub(1, std::memory_order_seq_cst) == 1) running.wake();
    }
  }

  void join() {
    stop.store(true, std::memory_order_release);
    start.value.fetch_add(1, std::memory_order_seq_cst);
    start.wake();
    for (std::thread& thread : threads) thread.join();
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  if (threads <= 0) threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  size_ = threads;
  state_->threads.reserve(threads - 1);
  try {
    for (int worker = 1; worker < threads; ++worker)
      state_->threads.emplace_back([&s = *state_, worker] { s.work(worker); });
  } catch (const std::system_error& e) {
    state_->join();
    fail(ErrorCode::kOutOfMemory, "[threads] only {} of {} threads could be started: {}",
         state_->threads.size() + 1, threads, e.what());
  }
}

ThreadPool::~ThreadPool() { state_->join(); }

void ThreadPool::run(const std::function<void(int)>& fn) {
  State& s = *state_;
  s.job = &fn;
  s.error = nullptr;
  if (size_ > 1) {
    s.running.value.store(size_ - 1, std::memory_order_relaxed);
    s.start.value.fetch_add(1, std::memory_order_seq_cst);
    s.start.wake();
  }
  s.call(0);
  if (size_ > 1) {
    uint32_t left = s.running.value.load(std::memory_order_acquire);
    while (left != 0) left = s.running.wait_change(left);
  }
  if (s.error) std::rethrow_exception(std::exchange(s.error, nullptr));
}

void ThreadPool::barrier() {
  if (size_ == 1) return;
  State& s = *state_;
  const uint32_t generation = s.generation.value.load(std::memory_order_acquire);
  if (s.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<uint32_t>(size_)) {
    s.arrived.store(0, std::memory_order_relaxed);
    s.generation.value.fetch_add(1, std::memory_order_seq_cst);
    s.generation.wake();
    return;
  }
  s.generation.wait_change(generation);
}

}  // namespace packlight::base
