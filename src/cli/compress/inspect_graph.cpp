#include "cli/verbs.h"
#include "graph/graph.h"
#include "import/import.h"

namespace packlight::cli {

std::string graph_text(const std::filesystem::path& model) {
  return graph::to_text(import::load_language_model(model).graph);
}

}  // namespace packlight::cli
