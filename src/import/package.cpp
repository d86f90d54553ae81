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
  for (const io::TensorSpec& spec : io::decoder_tensors(model.config)) {
    const codec::SparseTiles* sparse = package.sparse(spec.name);
    if (sparse == nullptr) continue;
    const bool two_of_four = sparse->form == codec::Sparsity::kTwoOfFour;
    model.graph.value(*model.graph.find(spec.name)).zeros =
        two_of_four ? graph::ZeroPattern{2, 4} : graph::ZeroPattern{};
  }
  mark_int8_inputs(model.graph,
                   [&](std::string_view name) { return package.format(name).int8_activations; });
  const auto tokenizer = package.blob("tokenizer");
  if (!tokenizer.empty()) {
    model.tokenizer = text::Tokenizer::from_blob(tokenizer, package.owner(), path.string());
  }
  return model;
}

}  // namespace packlight::import
