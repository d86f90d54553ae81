#include <chrono>

#include "cli/network_arrays.h"
#include "cli/network_session.h"
#include "cli/verbs.h"

namespace packlight::cli {

void run_network_package(const NetworkRunFlags& flags) {
  NetworkSession session(flags.model, flags.threads);
  check_outputs(flags.output, session.network().outputs.size());
  session.set_inputs(read_inputs(flags.inputs, inputs_of(session.network()), flags.model,
                                 preprocess_of(session.package())));
  session.plan();
  const auto start = std::chrono::steady_clock::now();
  session.run();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  report_outputs(flags.output, session.outputs(), seconds);
}

}  // namespace packlight::cli
