#pragma once

#include <cstdint>

#include "base/thread_pool.h"
#include "runtime/memory.h"

namespace packlight::runtime {

// Measures how fast this machine reads memory: every worker of the pool sums its contiguous share
// of a buffer much larger than the caches. What decoding could reach at most.
class ReadBandwidth {
 public:
  // Takes 512 MB, or a quarter of the machine's memory when that is less, but at least 64 MB.
  // Errors: OutOfMemory.
  explicit ReadBandwidth(base::ThreadPool& pool);
  // One pass over the buffer.
  double bytes_per_second();
  uint64_t size_bytes() const { return memory_.size_bytes(); }

 private:
  base::ThreadPool& pool_;
  ZeroedMemory memory_;
};

}  // namespace packlight::runtime
