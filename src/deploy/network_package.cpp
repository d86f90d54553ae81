#include "deploy/network_package.h"

#include "deploy/network.h"
#include "io/network_package.h"
#include "runtime/network/engine.h"

namespace packlight::deploy {

void write_network_package(const graph::Graph& graph, const NetworkPackageNotes& notes,
                           const std::filesystem::path& path) {
  io::Network network = *to_network(graph);
  network.metadata = notes.metadata;
  runtime::check_operators(network);
  io::NetworkMetadata metadata;
  metadata.recipe = notes.recipe;
  metadata.preprocess = notes.preprocess;
  io::write_network_package(path, network, metadata);
}

}  // namespace packlight::deploy
