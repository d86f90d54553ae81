#include <cstdio>
#include <new>

#include "base/interrupt.h"
#include "cli/verbs.h"
#include "packlight/error.h"

namespace {

constexpr int kFailed = 1, kInterruptedExit = 130;

}  // namespace

int main(int argc, char** argv) {
  using namespace packlight;
  CLI::App app("Packlight makes neural networks fit the devices people carry.", "packlight");
  app.set_version_flag("--version", PACKLIGHT_VERSION);
  app.require_subcommand(1);
#ifndef PACKLIGHT_RUNTIME_ONLY
  cli::add_quantize(app);
  cli::add_eval(app);
  cli::add_verify(app);
  cli::add_export(app);
#endif
  cli::add_run(app);
  cli::add_bench(app);
  cli::add_inspect(app);
  base::install_interrupt_handler();
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : kFailed;
  } catch (const Error& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return e.code() == ErrorCode::kInterrupted ? kInterruptedExit : kFailed;
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "error: out of memory\n");
    return kFailed;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: internal: %s\n", e.what());
    return kFailed;
  }
}
