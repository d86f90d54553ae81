#pragma once

namespace packlight::base {

// From here on SIGINT and SIGTERM only set a flag that check_interrupt() reads; a second one kills at once.
void install_interrupt_handler();

bool interrupted() noexcept;

// Throws Error{kInterrupted} when the user asked to stop. Cheap; call it in every long loop.
void check_interrupt();

// While one lives, check_interrupt() lets the current thread go on: what an interrupted run writes on its way out (a
// checkpoint) is written whole.
class FinishDespiteInterrupt {
 public:
  FinishDespiteInterrupt();
  ~FinishDespiteInterrupt();
  FinishDespiteInterrupt(const FinishDespiteInterrupt&) = delete;
  FinishDespiteInterrupt& operator=(const FinishDespiteInterrupt&) = delete;
};

}  // namespace packlight::base
