#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <cstdlib>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/fail.h"

namespace packlight::base {
namespace {

class ThreadPoolTest : public testing::TestWithParam<int> {};

INSTANTIATE_TEST_SUITE_P(Sizes, ThreadPoolTest, testing::Values(1, 2, 3, 4, 7));

TEST_P(ThreadPoolTest, RunsEveryWorkerOnce) {
  ThreadPool pool(GetParam());
  std::vector<int> calls(pool.size(), 0);
  for (int round = 0; round < 200; ++round) {
    pool.run([&](int worker) { ++calls[worker]; });
  }
  EXPECT_EQ(calls, std::vector<int>(GetParam(), 200));
}

TEST_P(ThreadPoolTest, BarrierMakesEarlierWritesVisible) {
  ThreadPool pool(GetParam());
  const int workers = pool.size();
  std::vector<int64_t> values(workers, 1);  // not atomic: the barrier alone orders the accesses
  std::vector<int64_t> sums(workers, 0);
  constexpr int kRounds = 300;
  pool.run([&](int worker) {
    for (int round = 0; round < kRounds; ++round) {
      sums[worker] = std::accumulate(values.begin(), values.end(), int64_t{0});
      pool.barrier();
      values[worker] = sums[(worker + 1) % workers] % 1000 + 1;
      pool.barrier();
    }
  });
  int64_t expected = 1;
  for (int round = 0; round < kRounds; ++round) expected = expected * workers % 1000 + 1;
  EXPECT_EQ(values, std::vector<int64_t>(workers, expected));
}

TEST_P(ThreadPoolTest, WakesSleepingWorkers) {
  ThreadPool pool(GetParam());
  std::vector<int> calls(pool.size(), 0);
  for (int round = 0; round < 3; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // far beyond the spinning
    pool.run([&](int worker) {
      if (worker == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      pool.barrier();
      ++calls[worker];
    });
  }
  EXPECT_EQ(calls, std::vector<int>(GetParam(), 3));
}

TEST_P(ThreadPoolTest, RethrowsAnExceptionAndStaysUsable) {
  ThreadPool pool(GetParam());
  for (int thrower = 0; thrower < pool.size(); ++thrower) {
    EXPECT_THROW(pool.run([&](int worker) {
      if (worker == thrower) throw std::runtime_error("worker");
    }),
                 std::runtime_error);
  }
  std::vector<int> calls(pool.size(), 0);
  pool.run([&](int worker) { ++calls[worker]; });
  EXPECT_EQ(calls, std::vector<int>(GetParam(), 1));
}

TEST(ThreadPool, ZeroMeansOnePerProcessor) { EXPECT_GE(ThreadPool(0).size(), 1); }

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST(ThreadPool, ThreadsThatCannotBeStartedAreAnError) {
  const auto little_memory = [] {
    const rlimit limit{400 << 20, 400 << 20};  // of address space: no room for the stacks of 1024 threads
    setrlimit(RLIMIT_AS, &limit);
    try {
      ThreadPool pool(1024);
    } catch (const Error& e) {
      std::exit(e.code() == ErrorCode::kOutOfMemory ? 0 : 1);
    }
    std::exit(2);
  };
  EXPECT_EXIT(little_memory(), ::testing::ExitedWithCode(0), "");
}
#endif

TEST(ThreadPool, EndsWithoutEverRunning) { EXPECT_EQ(ThreadPool(4).size(), 4); }

}  // namespace
}  // namespace packlight::base
