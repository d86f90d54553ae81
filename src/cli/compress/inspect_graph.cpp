#include "cli/verbs.h"
#include "graph/graph.h"
#include "import/import.h"
#include "import/onnx.h"

namespace packlight::cli {

std::string graph_text(const std::filesystem::path& model) {
  switch (io::detect_model_kind(model)) {
    case io::ModelKind::kOnnx:
      return graph::to_text(import::load_onnx(model).graph);
    case io::ModelKind::kNetworkPackage:
      return graph::to_text(import::load_network_package(model).graph);
    default:
      break;
  }
  return graph::to_text(import::load_language_model(model).graph);
}

}  // namespace packlight::cli
