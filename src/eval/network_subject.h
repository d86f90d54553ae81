#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "graph/graph.h"
#include "io/network_package.h"

namespace packlight::eval {

// A network as it is judged: what it takes and makes, and what runs it. One caller at a time.
struct NetworkSubject {
  using Arrays = std::unordered_map<std::string, at::Tensor>;  // by name

  const graph::Graph* graph = nullptr;  // inputs and outputs; must outlive the subject
  // Outputs are the caller's own. Errors: InvalidArgument for inputs that do not fit.
  std::function<Arrays(const Arrays& inputs)> run;
};

// Run by exec/.
NetworkSubject graph_subject(const graph::Graph& graph);

// Run by the runtime's engine; `graph` is what import::load_network_package() makes of the package.
// threads 0: one per processor.
NetworkSubject package_subject(const io::NetworkPackage& package, const graph::Graph& graph,
                               int threads);

}  // namespace packlight::eval
