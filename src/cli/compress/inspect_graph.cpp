#include "cli/verbs.h"
#include "graph/graph.h"
#include "import/import.h"
#include "import/onnx.h"

namespace packlight::cli {

std::string graph_text(const std::filesystem::path& model) {
  if (io::detect_model_kind(model) == io::ModelKind::kOnnx) return graph::to_text(import::load_onnx(model).graph);
  return graph::to_text(import::load_language_model(model).graph);
}

}  // namespace packlight::cli
