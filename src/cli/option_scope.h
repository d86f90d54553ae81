#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "base/fail.h"

namespace packlight::cli {

// Options of a verb that go with one kind of model: given with another, they are a mistake.
class OptionScope {
 public:
  // whose: "a network's", for messages.
  explicit OptionScope(std::string whose) : whose_(std::move(whose)) {}

  void add(CLI::Option* option) { options_.push_back(option); }

  // Errors: InvalidArgument naming the first option that was given.
  void expect_none(const char* verb, const std::string& model, const char* kind) const {
    for (const CLI::Option* option : options_) {
      if (option->count() == 0) continue;
      fail(ErrorCode::kInvalidArgument, "[{}] '{}' is {}: {} is {} option", verb, model, kind,
           option->get_name(), whose_);
    }
  }

 private:
  std::string whose_;
  std::vector<const CLI::Option*> options_;
};

}  // namespace packlight::cli
