#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace packlight::base {

// A progress bar with time left on standard error. Silent for the first second; on a terminal it redraws
// one line, elsewhere it prints a line every 10 s. Every advance() also checks for Ctrl-C
// (see interrupt.h), so long loops need nothing else. One thread at a time.
class Progress {
 public:
  Progress(std::string title, uint64_t total_steps);
  ~Progress();
  void advance(uint64_t steps = 1);
  void set_quiet(bool quiet) { quiet_ = quiet; }

 private:
  void draw(bool last);
  std::string title_;
  uint64_t total_, done_ = 0;
  bool quiet_ = false, drawn_ = false, terminal_;
  std::chrono::steady_clock::time_point start_, last_draw_;
};

}  // namespace packlight::base
