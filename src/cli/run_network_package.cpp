#include <chrono>

#include "cli/network_arrays.h"
#include "cli/network_session.h"
#include "cli/verbs.h"

namespace packlight::cli {

void run_network_package(const NetworkRunFlags& flags) {
  NetworkSession session(flags.model, flags.threads);
  check_outputs(flags.output, session.network().outputs.size());
#ifdef PACKLIGHT_RUNTIME_ONLY
  const auto preprocess = preprocess_of(session.package());
#else
  const auto preprocess = flags.preprocess.empty() ? preprocess_of(session.package())
                                                   : data::read_preprocess(flags.preprocess);
#endif
  session.set_inputs(
      read_inputs(flags.inputs, inputs_of(session.network()), flags.model, preprocess));
  session.plan();
  const auto start = std::chrono::steady_clock::now();
  session.run();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const auto& metadata = session.network().metadata;
  const auto characters = metadata.find(kCharactersKey);
  report_outputs(flags.output, session.outputs(), seconds,
                 characters == metadata.end() ? "" : characters->second);
}

}  // namespace packlight::cli
