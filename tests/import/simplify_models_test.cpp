// Simplification of real networks: PP-OCRv4's detector, recognizer and direction classifier.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdio>

#include "exec/evaluate.h"
#include "exec/executor.h"
#include "exec/tensor_compare.h"
#include "graph/simplify/simplify.h"
#include "import/onnx.h"
#include "test_paths.h"

namespace packlight {
namespace {

struct Model {
  const char* file;
  std::vector<int64_t> input;
  int most_nodes;  // after simplification
};

class SimplifyModelsTest : public ::testing::TestWithParam<Model> {};

TEST_P(SimplifyModelsTest, OutputsStay) {
  const auto path = test::cache_dir() / "models" / "ppocr" / GetParam().file;
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";
  const graph::Graph before = import::load_onnx(path).graph;
  graph::Graph after = before;
  const auto report = graph::simplify(after, {.evaluate = exec::evaluate_node});
  std::printf("%s: %d -> %d nodes\n", GetParam().file, report.nodes_before, report.nodes_after);
  for (const graph::PassReport& pass : report.passes) {
    std::printf("  %-24s %3d changes, %3d nodes\n", std::string(pass.name).c_str(), pass.changes,
                pass.nodes_removed);
  }
  ASSERT_NO_THROW(graph::verify(after));
  EXPECT_LE(report.nodes_after, GetParam().most_nodes);
  const std::unordered_map<std::string, at::Tensor> inputs = {
      {before.value(before.inputs[0]).name, test::noise(GetParam().input, 3)}};
  const auto want = exec::Executor(before).run(inputs), got = exec::Executor(after).run(inputs);
  ASSERT_EQ(want.size(), got.size());
  for (const auto& [name, tensor] : want) {
    ASSERT_EQ(got.count(name), 1u) << name;
    // The rounding of some hundred operators, seen against what the output spans.
    const double range = (tensor.max() - tensor.min()).item<double>();
    EXPECT_TRUE(test::close(got.at(name), tensor, 1e-5 * range)) << name << " spans " << range;
  }
}

INSTANTIATE_TEST_SUITE_P(
    PpOcr, SimplifyModelsTest,
    ::testing::Values(Model{"ch_PP-OCRv4_det_infer.onnx", {1, 3, 96, 160}, 180},
                      Model{"ch_PP-OCRv4_rec_infer.onnx", {1, 3, 48, 160}, 180},
                      Model{"ch_ppocr_mobile_v2.0_cls_infer.onnx", {1, 3, 48, 192}, 130}),
    [](const auto& info) {
      std::string name = info.param.file;
      for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
      return name;
    });

}  // namespace
}  // namespace packlight
