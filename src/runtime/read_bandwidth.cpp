#include "runtime/read_bandwidth.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

#include "runtime/work_split.h"

namespace packlight::runtime {
namespace {

constexpr uint64_t kMostBytes = 512ull << 20, kLeastBytes = 64ull << 20;
constexpr int64_t kLineWords = 8;  // 64 bytes

uint64_t buffer_bytes() {
  const auto machine =
      static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return std::clamp(machine / 4 / 64 * 64, kLeastBytes, kMostBytes);
}

uint64_t sum_lines(const uint64_t* words, int64_t lines) {
  uint64_t sums[kLineWords] = {};
  for (int64_t i = 0; i < lines; ++i) {
    for (int64_t j = 0; j < kLineWords; ++j) sums[j] += words[i * kLineWords + j];
  }
  uint64_t sum = 0;
  for (const uint64_t part : sums) sum += part;
  return sum;
}

}  // namespace

ReadBandwidth::ReadBandwidth(base::ThreadPool& pool)
    : pool_(pool), memory_(buffer_bytes(), "the bandwidth measurement") {
  // Untouched pages would all be the one zero page of the kernel, which the cache holds.
  std::memset(memory_.data(), 1, memory_.size_bytes());
}

double ReadBandwidth::bytes_per_second() {
  std::atomic<uint64_t> total{0};
  const auto* words = reinterpret_cast<const uint64_t*>(memory_.data());
  const auto lines = static_cast<int64_t>(memory_.size_bytes() / 64);
  const auto start = std::chrono::steady_clock::now();
  pool_.run([&](int worker) {
    const Span mine = split(lines, worker, pool_.size());
    total += sum_lines(words + mine.begin * kLineWords, mine.end - mine.begin);
  });
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
  // The sum is used, so the reads cannot be left out.
  return total.load() == 0 ? 0 : static_cast<double>(memory_.size_bytes()) / time.count();
}

}  // namespace packlight::runtime
