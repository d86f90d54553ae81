#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/fail.h"
#include "base/interrupt.h"
#include "cli/handover.h"
#include "cli/verbs.h"

namespace {

constexpr int kFailed = 1, kInterruptedExit = 130;

void print_error(std::string_view text) {
  std::fprintf(stderr, "error: %s\n", packlight::one_line(text).c_str());
}

// A full disk may only show when buffered results are written.
void check_standard_output() {
  if (std::fflush(stdout) != 0 || std::ferror(stdout)) {
    packlight::fail(packlight::ErrorCode::kIo, "[cli] standard output cannot be written: {}", std::strerror(errno));
  }
}

// CLI11 would only say that a verb is missing.
void check_verb(const CLI::App& app, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return;
  std::string known;
  for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (verb->get_name() == argv[1]) return;
    known += (known.empty() ? "" : ", ") + verb->get_name();
  }
  packlight::fail(packlight::ErrorCode::kInvalidArgument, "[cli] '{}' is no verb: there are {}", argv[1], known);
}

// CLI11 complains of a missing flag before it does of a mistyped one, and names no verb.
std::string usage_error(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<CLI::App*> verbs = app.get_subcommands();
  if (verbs.empty()) return fmt::format("{} (see packlight --help)", error.what());
  std::vector<std::string> unknown = verbs.front()->remaining();
  const auto flag = std::ranges::find_if(unknown, [](const std::string& word) { return word.starts_with("-"); });
  const std::string what = flag != unknown.end()      ? fmt::format("'{}' is no option", *flag)
                           : !unknown.empty()         ? fmt::format("'{}' is one argument too many", unknown.front())
                                                      : std::string(error.what());
  return fmt::format("{} (see packlight {} --help)", what, verbs.front()->get_name());
}

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
  cli::add_create(app);
  cli::add_train(app);
  cli::add_probe(app);
  cli::add_prune(app);
  cli::add_finetune(app);
#endif
  cli::add_run(app);
  cli::add_bench(app);
  cli::add_inspect(app);
  base::install_interrupt_handler();
  // A file that grows past the limit (ulimit -f) is then a failed write with a reason, as on a full disk.
  std::signal(SIGXFSZ, SIG_IGN);
  try {
#ifdef PACKLIGHT_HANDS_OVER
    if (!cli::runs_here(argc, argv)) cli::hand_over(argv);
#endif
    check_verb(app, argc, argv);
    app.parse(argc, argv);
    check_standard_output();
    return 0;
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    print_error(usage_error(app, e));
    return kFailed;
  } catch (const Error& e) {
    print_error(e.what());
    return e.code() == ErrorCode::kInterrupted ? kInterruptedExit : kFailed;
  } catch (const std::bad_alloc&) {
    print_error("out of memory");
    return kFailed;
  } catch (const std::system_error& e) {  // standard output or a path that the system refuses
    print_error(fmt::format("[cli] the system refused: {}", e.what()));
    return kFailed;
  } catch (const std::exception& e) {
    // LibTorch appends a stack trace on further lines.
    const std::string_view text = e.what();
    print_error(fmt::format("internal: {}", text.substr(0, text.find('\n'))));
    return kFailed;
  }
}
