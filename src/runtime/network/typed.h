#pragma once

#include <cstdint>

#include "runtime/network/operator.h"

namespace packlight::runtime {

// Calls fn(T{}) for the C++ type T of a dtype. Errors: InvalidArgument naming node and type for one
// that is not listed.
template <class Fn>
void for_number_type(const OperatorCall& call, codec::DType dtype, const Fn& fn) {
  switch (dtype) {
    case codec::DType::kF32:
      return fn(float{});
    case codec::DType::kI64:
      return fn(int64_t{});
    case codec::DType::kI32:
      return fn(int32_t{});
    case codec::DType::kI16:
      return fn(int16_t{});
    case codec::DType::kI8:
      return fn(int8_t{});
    case codec::DType::kU8:
      return fn(uint8_t{});
    default:
      call.refuse("elements of {} are not supported", codec::info(dtype).name);
  }
}

// The same by size alone, for operators that only move elements.
template <class Fn>
void for_element_size(const OperatorCall& call, codec::DType dtype, const Fn& fn) {
  switch (codec::info(dtype).block_bytes) {
    case 1:
      return fn(uint8_t{});
    case 2:
      return fn(uint16_t{});
    case 4:
      return fn(uint32_t{});
    case 8:
      return fn(uint64_t{});
    default:
      call.refuse("elements of {} are not supported", codec::info(dtype).name);
  }
}

}  // namespace packlight::runtime
