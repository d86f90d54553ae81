#pragma once

#include <memory>

#include "graph/graph.h"
#include "io/network.h"

namespace packlight::deploy {

// The graph as the runtime takes it. Dense weights become F32 where they are floats, and are shared
// with the graph where they are that already; packed ones stay packed. Errors: Unsupported for a
// weight that the runtime cannot hold (GGML blocks), and for input_quant, which it does not know.
std::shared_ptr<const io::Network> to_network(const graph::Graph& graph);

}  // namespace packlight::deploy
