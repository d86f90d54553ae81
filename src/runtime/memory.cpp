#include "runtime/memory.h"

#include <sys/mman.h>

#include <utility>

#include "base/fail.h"

namespace packlight::runtime {

ZeroedMemory::ZeroedMemory(uint64_t size_bytes, std::string_view purpose)
    : size_bytes_(size_bytes) {
  if (size_bytes == 0) return;
  void* p = MAP_FAILED;
  if (size_bytes < UINT64_MAX / 2) {
    p = mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  if (p == MAP_FAILED) {
    fail(ErrorCode::kOutOfMemory, "[runtime] {} needs {} MB, which the system refuses", purpose,
         size_bytes >> 20);
  }
#ifdef MADV_NOHUGEPAGE
  madvise(p, size_bytes, MADV_NOHUGEPAGE);  // a touched position must not make 2 MB resident
#endif
  data_ = static_cast<std::byte*>(p);
}

ZeroedMemory::~ZeroedMemory() {
  if (data_ != nullptr) munmap(data_, size_bytes_);
}

ZeroedMemory::ZeroedMemory(ZeroedMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_bytes_(std::exchange(other.size_bytes_, 0)) {}

ZeroedMemory& ZeroedMemory::operator=(ZeroedMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  return *this;
}

uint64_t Carver::checked_mul(uint64_t a, uint64_t b) {
  uint64_t result;
  if (__builtin_mul_overflow(a, b, &result)) {
    fail(ErrorCode::kOutOfMemory, "[runtime] a buffer of {} x {} bytes does not fit 64 bits", a, b);
  }
  return result;
}

uint64_t Carver::checked_add(uint64_t a, uint64_t b) {
  uint64_t result;
  if (__builtin_add_overflow(a, b, &result)) {
    fail(ErrorCode::kOutOfMemory, "[runtime] a buffer of {} + {} bytes does not fit 64 bits", a, b);
  }
  return result;
}

}  // namespace packlight::runtime
