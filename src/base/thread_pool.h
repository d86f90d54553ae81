#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

namespace packlight::base {

// A fixed team of threads that runs one function together. The calling thread is worker 0. Workers that wait
// (between run() calls, or in barrier()) spin for a short while and then sleep in the kernel, so an idle
// device is not kept awake.
class ThreadPool {
 public:
  // threads >= 1, or 0 for one per available processor.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return size_; }

  // Calls fn(worker) once on each of the size() workers and returns when all have returned. An exception on
  // any worker is rethrown here (the first one); fn must then not leave others waiting in barrier(), so
  // code that uses barrier() must not throw between barriers. Not reentrant; one caller at a time.
  void run(const std::function<void(int worker)>& fn);

  // Inside run(): returns when every worker has called it. Memory written before is visible after.
  void barrier();

 private:
  struct State;
  std::unique_ptr<State> state_;
  int size_;
};

}  // namespace packlight::base
