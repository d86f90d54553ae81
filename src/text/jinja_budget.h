#pragma once

#include <cstdint>
#include <string>

#include "text/jinja_value.h"

namespace packlight::text::jinja {

// What one rendering may use: templates come with models from anywhere. Whoever loops or builds
// charges for it first. Errors of all: Unsupported, a template that runs away. Must outlive the
// texts it makes.
class Budget {
 public:
  // A step is an expression, a statement or an item of a list.
  void charge(uint64_t steps) {
    steps_ += steps;
    if (steps_ > kMaxSteps) run_away();
  }
  void charge_copy(uint64_t bytes) { charge(bytes / 1024); }  // or comparing
  void charge_walk(uint64_t bytes) { charge(bytes / 64); }    // character by character

  // Before a text of this size is built.
  void check_room(uint64_t bytes) const {
    if (live_ + bytes > kMaxLive) overflow();
  }
  // From now on `bytes` more are in use; charges for writing them, too.
  void hold(uint64_t bytes);
  // Counts as in use until the last copy goes.
  Text text(std::string text);

 private:
  // Chat templates take some hundred steps a turn.
  static constexpr uint64_t kMaxSteps = 1000000, kMaxLive = uint64_t{64} << 20;
  [[noreturn]] static void run_away();
  [[noreturn]] static void overflow();

  uint64_t steps_ = 0, live_ = 0;
};

}  // namespace packlight::text::jinja
