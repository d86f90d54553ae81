#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace packlight::runtime {

// Zeroed, page-aligned memory that becomes resident only where it is touched. Movable, not
// copyable.
class ZeroedMemory {
 public:
  ZeroedMemory() = default;
  // Errors: OutOfMemory naming `purpose` and the size.
  ZeroedMemory(uint64_t size_bytes, std::string_view purpose);
  ~ZeroedMemory();
  ZeroedMemory(ZeroedMemory&& other) noexcept;
  ZeroedMemory& operator=(ZeroedMemory&& other) noexcept;

  std::byte* data() const { return data_; }
  uint64_t size_bytes() const { return size_bytes_; }

 private:
  std::byte* data_ = nullptr;
  uint64_t size_bytes_ = 0;
};

// Hands out 64-byte aligned arrays one after the other. With no memory it only counts, so that the
// same code first measures and then places.
class Carver {
 public:
  explicit Carver(std::byte* base) : base_(base) {}
  template <class T>
  T* take(uint64_t count) {
    const uint64_t at = used_;
    used_ = checked_add(used_, checked_mul(count, sizeof(T)));
    used_ = checked_add(used_, 63) / 64 * 64;
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + at);
  }
  uint64_t used() const { return used_; }

  // Errors: OutOfMemory when the result does not fit 64 bits.
  static uint64_t checked_mul(uint64_t a, uint64_t b);
  static uint64_t checked_add(uint64_t a, uint64_t b);

 private:
  std::byte* base_;
  uint64_t used_ = 0;
};

}  // namespace packlight::runtime
