#include <fmt/format.h>

#include <map>

#include "cli/compress/network_flags.h"
#include "cli/verbs.h"
#include "graph/cost.h"
#include "graph/coupling/coupling.h"
#include "graph/weight.h"
#include "import/import.h"
#include "io/hf_folder.h"
#include "prune/prepare.h"

namespace packlight::cli {
namespace {

graph::GraphCost cost_of(graph::Graph graph,
                         const std::map<std::string, std::vector<int64_t>>& shapes) {
  graph::bind_input_shapes(graph, shapes);
  return graph::total_cost(graph);
}

// One unit of a group, or, of query heads, one for each head of keys.
graph::Coupling::Removed smallest_cut(const graph::Coupling& coupling, size_t group) {
  graph::Coupling::Removed removed = coupling.none();
  const graph::Group& it = coupling.groups()[group];
  removed[group].assign(it.units, false);
  for (int64_t i = 0; i < it.units; i += it.parent < 0 ? it.units : it.per_parent)
    removed[group][i] = true;
  return removed;
}

Json slots_of(const graph::Graph& graph, const graph::Group& group) {
  Json slots = Json::array();
  for (const graph::GroupSlot& slot : group.slots) {
    slots.push_back({{"weight", graph.value(slot.weight).name},
                     {"axis", slot.axis},
                     {"indices_per_unit", slot.per_unit}});
  }
  return slots;
}

}  // namespace

Json inspect_groups(const std::string& path, const std::vector<std::string>& input_shapes) {
  graph::Graph graph;
  std::map<std::string, std::vector<int64_t>> shapes;
  if (io::is_network(io::detect_model_kind(path))) {
    graph = load_network(path).graph;
    prune::simplify_for_pruning(graph);
    if (!input_shapes.empty()) shapes = parse_input_shapes(input_shapes, graph);
  } else {
    graph = import::load_language_model(path).graph;
    for (const graph::ValueId id : graph.inputs) shapes[graph.value(id).name] = {1, 1};
  }
  const graph::Coupling coupling(graph);
  const graph::GraphCost whole = cost_of(graph, shapes);
  Json groups = Json::array();
  for (size_t i = 0; i < coupling.groups().size(); ++i) {
    const graph::Group& group = coupling.groups()[i];
    Json json = {
        {"name", group.name},
        {"kind", graph::group_kind_name(group.kind)},
        {"units", group.units},
        {"weights", slots_of(graph, group)},
        {"blocked", group.blocked.empty() ? Json() : Json(group.blocked)},
        {"parent", group.parent < 0 ? Json() : Json(coupling.groups()[group.parent].name)}};
    if (group.blocked.empty() && group.units > 1) {
      const graph::GraphCost left = cost_of(coupling.cut(graph, smallest_cut(coupling, i), true), shapes);
      const int64_t units = group.parent < 0 ? 1 : group.units / group.per_parent;
      json["parameters_per_unit"] = (whole.parameters - left.parameters) / units;
      json["macs_per_unit"] =
          whole.macs && left.macs ? Json((*whole.macs - *left.macs) / units) : Json();
    }
    groups.push_back(std::move(json));
  }
  return groups;
}

void print_groups(const Json& groups) {
  fmt::print("{:<44} {:<9} {:>6} {:>11} {:>13}  {}\n", "group", "kind", "units", "parameters",
             "MACs a unit", "weights");
  for (const Json& group : groups) {
    if (!group["blocked"].is_null()) continue;
    std::string weights;
    for (const Json& slot : group["weights"])
      weights += fmt::format("{}{}[{}]", weights.empty() ? "" : " ",
                             slot["weight"].get<std::string>(), slot["axis"].dump());
    const auto number = [&](const char* key) {
      return group.contains(key) && !group[key].is_null() ? group[key].dump() : "?";
    };
    fmt::print("{:<44} {:<9} {:>6} {:>11} {:>13}  {}\n", group["name"].get<std::string>(),
               group["kind"].get<std::string>(), group["units"].dump(),
               number("parameters_per_unit"), number("macs_per_unit"), weights);
  }
  fmt::print("\nWhat has to stay:\n");
  for (const Json& group : groups) {
    if (group["blocked"].is_null()) continue;
    fmt::print("{:<44} {:>6}  {}\n", group["name"].get<std::string>(), group["units"].dump(),
               group["blocked"].get<std::string>());
  }
}

}  // namespace packlight::cli
