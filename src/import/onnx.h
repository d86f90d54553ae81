#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "onnx_file/model.h"

namespace packlight::import {

// A network that came as ONNX, or in a package. Its values keep the file's names; dense weights are
// views of the file's bytes.
struct OnnxNetwork {
  std::filesystem::path path;
  graph::Graph graph;                           // opset 23, whatever the file's
  int64_t opset = 0;                            // of the file; a package's is 23
  std::map<std::string, std::string> metadata;  // metadata_props: a recognizer's alphabet, say
  std::vector<std::string> notices;             // what was read otherwise than the file says
};

// Reads an ONNX file of opset 7 to 23 into the graph: nodes in an order in which values are made
// before they are used, older operators rewritten to what they are at opset 23, functions inlined,
// Constant nodes and initializers as weights, values that subgraphs take from outside as explicit
// inputs of their node, shapes inferred. Arithmetic is in F32: inputs and outputs of other float
// types keep them through a Cast, weights keep theirs.
// Errors: those of onnx_file; Unsupported naming node and operator for an unknown domain or
// operator, sparse tensors, sequences, maps, strings, an opset outside 7 to 23; Corrupt for a
// cycle, a value that is missing or made twice, shapes that contradict each other.
OnnxNetwork load_onnx(const std::filesystem::path& path);
OnnxNetwork load_onnx(const onnx_file::Model& model);
// The metadata alone. Errors: those of onnx_file.
std::map<std::string, std::string> read_onnx_metadata(const std::filesystem::path& path);

// The network that a package holds, node by node; packed weights stay packed, dense ones are views
// of the mapped file. Checksums are not looked at. Errors: those of io::NetworkPackage; Corrupt for
// a network that graph::verify() refuses.
OnnxNetwork load_network_package(const std::filesystem::path& path);

}  // namespace packlight::import
