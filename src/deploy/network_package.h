#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "base/json.h"
#include "graph/graph.h"

namespace packlight::deploy {

// What a network's package keeps besides the network.
struct NetworkPackageNotes {
  Json recipe;                                  // what was done to the network; null: nothing
  Json preprocess;                              // data::preprocess_to_json(); null: not known
  std::map<std::string, std::string> metadata;  // of the ONNX file: a recognizer's alphabet, say
};

// Writes a network as a package (docs/formats/package.md), operator by operator as it is: who wants
// fewer of them simplifies it first. Errors: Unsupported naming the node or value that the runtime
// cannot run or hold; those of io::write_network_package(). An earlier file at `path` is replaced
// only by a complete one.
void write_network_package(const graph::Graph& graph, const NetworkPackageNotes& notes,
                           const std::filesystem::path& path);

}  // namespace packlight::deploy
