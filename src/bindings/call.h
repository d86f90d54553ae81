#pragma once

#include <string>

#include "packlight/error.h"
#include "packlight/packlight.h"

namespace packlight::bindings {

// Keeps `message` for packlight_last_error() of this thread.
packlight_status failed(packlight_status status, const char* message) noexcept;

// The exception being handled as a status. Only inside a catch block.
packlight_status translate_exception() noexcept;

// Runs fn; no exception leaves.
template <class Fn>
packlight_status call(const Fn& fn) noexcept {
  try {
    fn();
    return PACKLIGHT_OK;
  } catch (...) {
    return translate_exception();
  }
}

// Errors: InvalidArgument naming the function and the argument when it is NULL.
void expect_given(const void* pointer, const char* function, const char* argument);

}  // namespace packlight::bindings
