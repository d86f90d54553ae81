#include "base/interrupt.h"

#include <csignal>

#include "base/fail.h"

namespace packlight::base {
namespace {

volatile std::sig_atomic_t flag = 0;

void on_signal(int signal) {
  if (flag != 0) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  flag = 1;
}

}  // namespace

void install_interrupt_handler() {
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
}

bool interrupted() noexcept { return flag != 0; }

namespace {
thread_local int finishing = 0;
}  // namespace

FinishDespiteInterrupt::FinishDespiteInterrupt() { ++finishing; }
FinishDespiteInterrupt::~FinishDespiteInterrupt() { --finishing; }

void check_interrupt() {
  if (flag != 0 && finishing == 0) fail(ErrorCode::kInterrupted, "interrupted; every earlier file is as it was");
}

}  // namespace packlight::base
