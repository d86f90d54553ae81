#include <ATen/ATen.h>

#include "base/fail.h"
#include "import/sources.h"

namespace packlight::import {

LanguageModel load_package(const std::filesystem::path& path) {
  const io::Package package = io::Package::open(path);
  LanguageModel model{io::ModelKind::kPackage, path, package.config(), {}, std::nullopt};
  model.graph = build_decoder_graph(model.config, [&](const io::TensorSpec& spec) -> graph::Weight {
    return package.tensor(spec.name);
  });
  for (graph::NodeId id = 0; id < static_cast<graph::NodeId>(model.graph.nodes().size()); ++id) {
    const auto weight = graph::linear_weight(model.graph, model.graph.node(id));
    if (!weight || !package.format(model.graph.value(weight->value).name).int8_activations)
      continue;
    model.graph.node(id).input_quant = graph::ActivationQuant::kInt8PerToken32;
  }
  const auto tokenizer = package.blob("tokenizer");
  if (!tokenizer.empty()) model.tokenizer = text::Tokenizer::from_blob(tokenizer, package.owner());
  return model;
}

}  // namespace packlight::import
