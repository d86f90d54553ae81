#include "bindings/call.h"

#include <new>

#include "base/fail.h"

namespace packlight::bindings {
namespace {

std::string& last_error() {
  static thread_local std::string text;
  return text;
}

packlight_status status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return PACKLIGHT_INVALID_ARGUMENT;
    case ErrorCode::kNotFound:
      return PACKLIGHT_NOT_FOUND;
    case ErrorCode::kCorrupt:
      return PACKLIGHT_CORRUPT;
    case ErrorCode::kUnsupported:
      return PACKLIGHT_UNSUPPORTED;
    case ErrorCode::kIo:
      return PACKLIGHT_IO;
    case ErrorCode::kOutOfMemory:
      return PACKLIGHT_OUT_OF_MEMORY;
    case ErrorCode::kInternal:
      return PACKLIGHT_INTERNAL;
    case ErrorCode::kInterrupted:
      return PACKLIGHT_INTERRUPTED;
  }
  return PACKLIGHT_INTERNAL;
}

}  // namespace

packlight_status failed(packlight_status status, const char* message) noexcept {
  try {
    last_error() = message;
  } catch (...) {  // no memory for the reason: an older one would mislead
    last_error().clear();
  }
  return status;
}

packlight_status translate_exception() noexcept {
  try {
    throw;
  } catch (const Error& e) {
    return failed(status_of(e.code()), e.what());
  } catch (const std::bad_alloc&) {
    return failed(PACKLIGHT_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& e) {
    return failed(PACKLIGHT_INTERNAL, e.what());
  } catch (...) {
    return failed(PACKLIGHT_INTERNAL, "an unknown exception");
  }
}

void expect_given(const void* pointer, const char* function, const char* argument) {
  if (pointer != nullptr) return;
  fail(ErrorCode::kInvalidArgument, "[c] {}: '{}' is NULL", function, argument);
}

}  // namespace packlight::bindings

extern "C" const char* packlight_last_error(void) {
  return packlight::bindings::last_error().c_str();
}
