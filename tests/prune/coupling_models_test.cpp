// The rules of coupled groups on real models: cutting what a mask has zeroed changes no output.
#include <gtest/gtest.h>

#include "exec/coupling_cut.h"
#include "exec/executor.h"
#include "graph/cost.h"
#include "graph/weight.h"
#include "import/import.h"
#include "import/onnx.h"
#include "prune/prepare.h"
#include "test_paths.h"

namespace packlight::prune {
namespace {

using graph::Coupling;
using Inputs = std::unordered_map<std::string, at::Tensor>;

// Largest difference between the outputs, in parts of what the first spans.
double difference(const graph::Graph& before, const graph::Graph& after, const Inputs& inputs) {
  const auto want = exec::Executor(before).run(inputs), have = exec::Executor(after).run(inputs);
  double largest = 0;
  for (const auto& [name, tensor] : want) {
    const double span = (tensor.max() - tensor.min()).item<double>();
    EXPECT_GT(span, 0) << name << " says nothing";
    largest = std::max(largest, (have.at(name) - tensor).abs().max().item<double>() / span);
  }
  return largest;
}

// Of every group about one unit in `share` goes; where a parent goes, its query heads follow.
Coupling::Removed some_units(const Coupling& coupling, std::mt19937_64& draw, int64_t share,
                             const std::function<bool(const graph::Group&)>& wanted) {
  Coupling::Removed removed = test::random_units(coupling, draw);
  for (size_t g = 0; g < removed.size(); ++g) {
    const graph::Group& group = coupling.groups()[g];
    if (!wanted(group) || group.parent >= 0) removed[g].clear();
    bool first = true;
    for (size_t unit = 0; unit < removed[g].size(); ++unit) {
      removed[g][unit] = removed[g][unit] && (first || draw() % share == 0);
      first = first && !removed[g][unit];
    }
  }
  return removed;
}

void expect_groups_of_network(const std::string& file, std::vector<int64_t> shape) {
  import::OnnxNetwork network = import::load_onnx(test::cache_dir() / "models/ppocr" / file);
  simplify_for_pruning(network.graph);
  const Coupling coupling(network.graph);
  std::mt19937_64 draw(1);
  const Inputs inputs{{network.graph.value(network.graph.inputs[0]).name, test::noise(shape, 3)}};
  const Coupling::Removed removed =
      some_units(coupling, draw, 4, [](const graph::Group&) { return true; });
  int64_t units = 0;
  for (const auto& group : removed) units += std::count(group.begin(), group.end(), true);
  EXPECT_GT(units, 40) << file;
  const graph::Graph before = test::masked(network.graph, coupling, removed),
                     after = coupling.cut(before, removed);
  EXPECT_LT(graph::total_cost(after).parameters, graph::total_cost(before).parameters);
  EXPECT_LT(difference(before, after, inputs), 1e-4) << file << ": " << units << " units";
}

TEST(CouplingOfModels, TextDetection) {
  expect_groups_of_network("ch_PP-OCRv4_det_infer.onnx", {1, 3, 64, 96});
}
TEST(CouplingOfModels, TextRecognition) {
  expect_groups_of_network("ch_PP-OCRv4_rec_infer.onnx", {1, 3, 48, 160});
}
TEST(CouplingOfModels, TextDirection) {
  expect_groups_of_network("ch_ppocr_mobile_v2.0_cls_infer.onnx", {1, 3, 48, 192});
}

// Neurons and key heads of a few layers, and the width of the residual stream with every norm.
TEST(CouplingOfModels, LanguageModel) {
  import::LanguageModel model =
      import::load_language_model(test::cache_dir() / "models/SmolLM2-135M-Instruct.Q4_1.gguf");
  for (graph::ValueId id = 0; id < static_cast<graph::ValueId>(model.graph.values().size()); ++id) {
    graph::Value& value = model.graph.value(id);
    if (!value.weight || !graph::is_float(graph::weight_type(*value.weight))) continue;
    value.weight = exec::dense_weight(*value.weight);
    value.type = graph::ElementType::kF32;
  }
  const Coupling coupling(model.graph);
  std::mt19937_64 draw(1);
  const Coupling::Removed removed = some_units(coupling, draw, 4, [](const graph::Group& group) {
    return group.kind == graph::GroupKind::kWidth ||
           group.name.find("layers.3.") != std::string::npos ||
           group.name.find("layers.17.") != std::string::npos;
  });
  int64_t groups = 0;
  for (const auto& group : removed) groups += std::count(group.begin(), group.end(), true) > 0;
  EXPECT_EQ(groups, 5);  // the width, and of two layers neurons and key heads
  const graph::Graph before = test::masked(model.graph, coupling, removed),
                     after = coupling.cut(before, removed);
  const at::Tensor ids = at::remainder(at::arange(24, at::kLong) * 1237, 49152).unsqueeze(0);
  EXPECT_LT(
      difference(before, after,
                 {{"input_ids", ids}, {"position_ids", at::arange(24, at::kLong).unsqueeze(0)}}),
      1e-4);
}

}  // namespace
}  // namespace packlight::prune
