#pragma once

#include <string_view>

#include "base/json.h"
#include "graph/graph.h"

namespace packlight::import {

// Which weights are pruned, as model files hold it: config.json "packlight_pruning", and the GGUF key "packlight.pruning" with
// the same as text. Names of weights by pattern: {"2:4": ["model.layers.0.mlp.up_proj.weight", ...]}. Where the zeros are the
// weights themselves tell.
inline constexpr std::string_view kHfPruningKey = "packlight_pruning", kGgufPruningKey = "packlight.pruning";

// Empty when no weight is pruned.
Json pruning_to_json(const graph::Graph& graph);
// Marks the weights. Errors: Corrupt naming `origin` for another form, a pattern that is none, a name that no matrix has.
void mark_pruned(graph::Graph& graph, const Json& record, std::string_view origin);

}  // namespace packlight::import
