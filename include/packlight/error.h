#pragma once

#include <exception>
#include <string>
#include <utility>

namespace packlight {

// What kind of failure an Error reports; the text says the rest.
enum class ErrorCode {
  kInvalidArgument,  // the caller asked for something that cannot be
  kNotFound,         // a file, tensor or name does not exist
  kCorrupt,          // a file's bytes contradict its format
  kUnsupported,      // well-formed, but nothing here handles it
  kIo,               // the operating system refused a read or write
  kOutOfMemory,
  kInternal,         // a rule of our own is broken: a bug
  kInterrupted,      // the user asked to stop (Ctrl-C)
};

// The one exception type of Packlight. what() is one line: who, where, the values and the rule.
class Error : public std::exception {
 public:
  Error(ErrorCode code, std::string message) : code_(code), message_(std::move(message)) {}
  ErrorCode code() const noexcept { return code_; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  ErrorCode code_;
  std::string message_;
};

// "InvalidArgument", "NotFound", ...; static storage.
const char* error_code_name(ErrorCode code) noexcept;

}  // namespace packlight
