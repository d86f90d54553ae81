#pragma once

#include <cstdlib>
#include <filesystem>
#include <span>

#include "graph/simplify/simplify.h"
#include "import/onnx.h"
#include "onnx_file/model.h"

namespace packlight::fuzz {

// An ONNX file: an Error, or a graph that keeps every rule, also once it is simplified.
inline void onnx(std::span<const std::byte> bytes) {
  // In a folder that does not exist: no file of the machine is external data.
  const onnx_file::Model model = onnx_file::Model::parse(bytes, "/nonexistent/fuzz.onnx");
  import::OnnxNetwork network = import::load_onnx(model);
  graph::to_text(network.graph);
  graph::simplify(network.graph);
  try {
    graph::verify(network.graph);
  } catch (const Error&) {
    std::abort();
  }
}

}  // namespace packlight::fuzz
