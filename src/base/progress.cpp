#include "base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/interrupt.h"

namespace packlight::base {
namespace {

using std::chrono::duration;
using std::chrono::steady_clock;

double seconds(steady_clock::duration d) { return duration<double>(d).count(); }

std::string clock_text(double s) {
  const int total = static_cast<int>(s + 0.5);
  if (total >= 3600)
    return fmt::format("{}:{:02}:{:02}", total / 3600, total / 60 % 60, total % 60);
  return fmt::format("{}:{:02}", total / 60, total % 60);
}

}  // namespace

Progress::Progress(std::string title, uint64_t total_steps)
    : title_(std::move(title)),
      total_(std::max<uint64_t>(1, total_steps)),
      terminal_(isatty(STDERR_FILENO) != 0),
      start_(steady_clock::now()),
      last_draw_(start_) {}

Progress::~Progress() {
  if (drawn_ && !quiet_) draw(true);
}

void Progress::advance(uint64_t steps) {
  check_interrupt();
  done_ = std::min(total_, done_ + steps);
  if (quiet_) return;
  const auto now = steady_clock::now();
  const double since = seconds(now - last_draw_);
  const double wait = drawn_ ? (terminal_ ? 0.2 : 10.0) : 1.0;
  if (since < wait) return;
  last_draw_ = now;
  draw(false);
}

void Progress::draw(bool last) {
  const double elapsed = seconds(steady_clock::now() - start_);
  const double share = static_cast<double>(done_) / static_cast<double>(total_);
  const int width = 24, filled = static_cast<int>(share * width);
  std::string time = fmt::format("{} taken", clock_text(elapsed));
  if (!last && share > 0) time = fmt::format("{} left", clock_text(elapsed / share - elapsed));
  std::string line = fmt::format("{} [{}{}] {:3.0f} %, {}", title_, std::string(filled, '#'),
                                 std::string(width - filled, '.'), share * 100, time);
  if (terminal_) {
    std::fprintf(stderr, "\r\033[K%s%s", line.c_str(), last ? "\n" : "");
  } else {
    std::fprintf(stderr, "%s\n", line.c_str());
  }
  std::fflush(stderr);
  drawn_ = true;
}

}  // namespace packlight::base
