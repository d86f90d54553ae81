#include "cli/compress/verify_network.h"

#include <fmt/format.h>

#include <thread>

#include "base/fail.h"
#include "base/json.h"
#include "cli/compress/network_flags.h"
#include "eval/compare_networks.h"
#include "exec/executor.h"
#include "io/network_package.h"

namespace packlight::cli {
namespace {

// What was found; the first failure is the error that ends the command.
struct NetworkFindings {
  Json json = Json::object();
  std::string failure;
};

void check_bytes(const io::NetworkPackage& package, NetworkFindings& findings) {
  const std::vector<std::string> damaged = package.damaged_blocks();
  findings.json["checksums"] = {{"ok", damaged.empty()}, {"damaged_blocks", damaged}};
  if (damaged.empty()) return;
  findings.failure = fmt::format("[verify] '{}': the bytes of {} differ from their checksum",
                                 package.path().string(), fmt::join(damaged, ", "));
}

void add_difference(const NetworkVerification& what, const char* key, const std::string& other,
                    const eval::NetworkDifference& difference, bool judged, NetworkFindings& findings) {
  const bool ok = difference.largest <= what.tolerance;
  findings.json[key] = {{"ok", judged ? Json(ok) : Json()},
                        {"tolerance", what.tolerance},
                        {"largest_difference", difference.largest},
                        {"output", difference.output}};
  if (ok || !judged || !findings.failure.empty()) return;
  findings.failure = fmt::format(
      "[verify] '{}': the runtime's output '{}' differs from that of {} by {:.2e} of its range, "
      "more than {:.2e}",
      what.package, difference.output, other, difference.largest, what.tolerance);
}

void check_outputs(const NetworkVerification& what, const io::NetworkPackage& package,
                   NetworkFindings& findings) {
  const import::OnnxNetwork decoded = import::load_network_package(what.package);
  const eval::NetworkSubject runtime = eval::package_subject(package, decoded.graph, 0);
  const auto shapes = parse_input_shapes(what.input_shapes, decoded.graph);
  add_difference(what, "runtime", "the decoded graph",
                 eval::compare_networks(runtime, eval::graph_subject(decoded.graph), shapes), true,
                 findings);
  if (what.original.empty()) return;
  const import::OnnxNetwork original = load_network(what.original);
  const auto original_shapes = parse_input_shapes(what.input_shapes, original.graph);
  add_difference(
      what, "original", fmt::format("'{}'", what.original),
      eval::compare_networks(runtime, eval::graph_subject(original.graph), original_shapes),
      package.metadata().recipe.is_null(), findings);
}

void print_difference(const char* label, const char* other, const Json& found) {
  const char* verdict = found["ok"].is_null() ? "quantized" : found["ok"] == true ? "ok" : "FAILED";
  fmt::print(
      "{:<11} {}: the runtime differs from {} by at most {:.2e} of the range, at '{}' "
      "({} {:.2e})\n",
      label, verdict, other, found["largest_difference"].get<double>(),
      found["output"].get<std::string>(),
      found["ok"].is_null() ? "not judged by the bound" : "bound",
      found["tolerance"].get<double>());
}

void print_text(const NetworkVerification& what, const Json& found) {
  fmt::print("{}\nchecksums   {}\n", what.package,
             found["checksums"]["ok"] == true ? "ok" : "FAILED");
  if (found.contains("runtime")) print_difference("runtime", "the decoded graph", found["runtime"]);
  if (found.contains("original"))
    print_difference("original", what.original.c_str(), found["original"]);
}

}  // namespace

void verify_network_package(const NetworkVerification& what) {
  exec::initialise(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  const io::NetworkPackage package = io::NetworkPackage::open(what.package);
  NetworkFindings findings;
  check_bytes(package, findings);
  if (findings.failure.empty()) check_outputs(what, package, findings);
  findings.json["ok"] = findings.failure.empty();
  if (what.json) {
    fmt::print("{}\n", findings.json.dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    print_text(what, findings.json);
  }
  if (!findings.failure.empty()) throw Error(ErrorCode::kCorrupt, one_line(findings.failure));
}

}  // namespace packlight::cli
