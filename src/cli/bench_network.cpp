#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "base/fail.h"
#include "base/interrupt.h"
#include "base/progress.h"
#include "cli/bench_samples.h"
#include "cli/input_shapes.h"
#include "cli/network_arrays.h"
#include "cli/network_session.h"
#include "cli/peak_memory.h"
#include "cli/verbs.h"
#include "kernels/kernels.h"

namespace packlight::cli {
namespace {

double timed_run(NetworkSession& session) {
  base::check_interrupt();
  const auto start = std::chrono::steady_clock::now();
  session.run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

struct Share {
  std::string name, op;
  int64_t nodes = 1;
  double seconds = 0;  // a run
};

Json shares_json(std::vector<Share> shares, double total, bool by_node) {
  std::stable_sort(shares.begin(), shares.end(),
                   [](const Share& a, const Share& b) { return a.seconds > b.seconds; });
  Json list = Json::array();
  for (const Share& share : shares) {
    Json one = Json::object();
    if (by_node) one["node"] = share.name;
    one["op"] = share.op;
    if (!by_node) one["nodes"] = share.nodes;
    one["ms"] = share.seconds * 1e3;
    one["share"] = total > 0 ? share.seconds / total : 0;
    list.push_back(std::move(one));
  }
  return list;
}

// Where the time of the runs in `seconds` went: by operator and by node, slowest first.
Json profile_json(const io::Network& network, const std::vector<double>& seconds, int repetitions) {
  std::vector<Share> nodes;
  std::map<std::string, Share> operators;
  double total = 0;
  for (size_t i = 0; i < network.nodes.size(); ++i) {
    const io::NetworkNode& node = network.nodes[i];
    const double once = seconds[i] / repetitions;
    total += once;
    nodes.push_back({node.name, node.op, 1, once});
    Share& sum = operators.try_emplace(node.op, Share{"", node.op, 0, 0}).first->second;
    ++sum.nodes;
    sum.seconds += once;
  }
  std::vector<Share> sums;
  for (const auto& [op, share] : operators) sums.push_back(share);
  return {{"operators", shares_json(std::move(sums), total, false)},
          {"nodes", shares_json(std::move(nodes), total, true)}};
}

void print_profile(const Json& profile) {
  constexpr size_t kShownNodes = 20;
  fmt::print("\n{:<24} {:>6} {:>10} {:>7}\n", "operator", "nodes", "ms", "share");
  for (const Json& one : profile["operators"]) {
    fmt::print("{:<24} {:>6} {:>10.3f} {:>6.1f} %\n", one["op"].get<std::string>(),
               one["nodes"].get<int64_t>(), one["ms"].get<double>(),
               one["share"].get<double>() * 100);
  }
  fmt::print("\n{:<44} {:<18} {:>10} {:>7}\n", "slowest nodes (--json has all)", "operator", "ms",
             "share");
  const Json& nodes = profile["nodes"];
  for (size_t i = 0; i < std::min(nodes.size(), kShownNodes); ++i) {
    fmt::print("{:<44} {:<18} {:>10.3f} {:>6.1f} %\n", nodes[i]["node"].get<std::string>(),
               nodes[i]["op"].get<std::string>(), nodes[i]["ms"].get<double>(),
               nodes[i]["share"].get<double>() * 100);
  }
}

Json measure(const NetworkBenchFlags& flags) {
  NetworkSession session(flags.model, flags.threads);
  std::vector<std::string> names;
  for (const NetworkInput& input : inputs_of(session.network())) names.push_back(input.name);
  session.set_random_inputs(parse_input_shapes(flags.input_shapes, names, flags.model));
  base::Progress progress("Measuring", (flags.profile ? 2 : 1) * flags.repetitions + 1);
  timed_run(session);  // plans, and touches every page
  progress.advance();
  Samples latency;
  for (int i = 0; i < flags.repetitions; ++i) {
    latency.values.push_back(timed_run(session));
    progress.advance();
  }
  Json json = {{"model", flags.model},
               {"threads", session.threads()},
               {"isa", kernels::active().name},
               {"repetitions", flags.repetitions}};
  for (const auto& [name, dims] : session.input_shapes()) json["inputs"][name] = dims;
  add_samples(json, "latency_ms", latency, 1e-3);
  json["arena_bytes"] = session.engine().arena_bytes();
  json["prepared_bytes"] = session.engine().prepared_bytes();
  json["package_bytes"] = session.package().size_bytes();
  json["peak_rss_mb"] = peak_rss_mb();
  if (!flags.profile) return json;
  // The nodes that are run: some of the package's are one there.
  const io::Network& network = session.engine().network();
  std::vector<double> seconds(network.nodes.size());
  session.engine().profile(&seconds);
  for (int i = 0; i < flags.repetitions; ++i) {  // apart: looking at the clock costs time, too
    timed_run(session);
    progress.advance();
  }
  session.engine().profile(nullptr);
  json["profile"] = profile_json(network, seconds, flags.repetitions);
  return json;
}

}  // namespace

void bench_network(const NetworkBenchFlags& flags) {
  const Json json = measure(flags);
  if (flags.json) {
    fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
    return;
  }
  fmt::print("kernels            {}, {} threads\n", json["isa"].get<std::string>(),
             json["threads"].get<int>());
  for (const auto& [name, dims] : json["inputs"].items())
    fmt::print("input              {} {}\n", name, dims.dump());
  fmt::print("latency            {:.3f} ms ({:.3f} to {:.3f}, {} runs)\n",
             json["latency_ms"].get<double>(), json["latency_ms_min"].get<double>(),
             json["latency_ms_max"].get<double>(), flags.repetitions);
  fmt::print(
      "peak resident      {:.1f} MB (package {:.1f} MB, memory plan {:.1f} MB, prepared weights "
      "{:.1f} MB)\n",
      json["peak_rss_mb"].get<double>(), json["package_bytes"].get<double>() / 1e6,
      json["arena_bytes"].get<double>() / 1e6, json["prepared_bytes"].get<double>() / 1e6);
  if (flags.profile) print_profile(json["profile"]);
}

}  // namespace packlight::cli
