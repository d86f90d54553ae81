#include "import/pruning_record.h"

#include "base/fail.h"
#include "graph/weight.h"

namespace packlight::import {

Json pruning_to_json(const graph::Graph& graph) {
  Json record = Json::object();
  for (const graph::Value& value : graph.values()) {
    if (value.weight && value.zeros) record[graph::to_string(*value.zeros)].push_back(value.name);
  }
  return record;
}

void mark_pruned(graph::Graph& graph, const Json& record, std::string_view origin) {
  const auto broken = [&](const std::string& what) {
    fail(ErrorCode::kCorrupt, "[import] '{}': the record of pruning {}", origin, what);
  };
  if (!record.is_object()) broken("is no object");
  for (const auto& [text, names] : record.items()) {
    graph::ZeroPattern pattern;
    try {
      pattern = graph::parse_zero_pattern(text);
    } catch (const Error& error) {
      broken(error.what());
    }
    if (!names.is_array()) broken(fmt::format("has no list for '{}'", text));
    for (const Json& name : names) {
      const auto id = name.is_string() ? graph.find(name.get_ref<const std::string&>()) : std::nullopt;
      const bool matrix = id && graph.value(*id).weight && graph::weight_shape(*graph.value(*id).weight).size() == 2;
      if (!matrix) broken(fmt::format("names {}, which is no matrix of the model", name.dump()));
      graph.value(*id).zeros = pattern;
    }
  }
}

}  // namespace packlight::import
