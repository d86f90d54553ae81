#pragma once

namespace packlight::cli {

// The command is two programs. `packlight` runs models: it starts at once and holds no LibTorch, whose loading alone takes 155 MB
// and most of a second. `packlight-compress`, beside it or in ../libexec/packlight, has every verb; `packlight` becomes
// that program for whatever it does not run itself.

// Whether the verb on this command line is one that `packlight` runs itself.
bool runs_here(int argc, char** argv);

// Replaces this process by packlight-compress with the same arguments. Errors: NotFound when it is not installed.
[[noreturn]] void hand_over(char** argv);

}  // namespace packlight::cli
