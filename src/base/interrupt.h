#pragma once

namespace packlight::base {

// From here on SIGINT and SIGTERM only set a flag that check_interrupt() reads; a second one kills at once.
void install_interrupt_handler();

bool interrupted() noexcept;

// Throws Error{kInterrupted} when the user asked to stop. Cheap; call it in every long loop.
void check_interrupt();

}  // namespace packlight::base
