// The onnx package's own tests of every operator, through the importer and the executor.
#include "onnx_node_cases.h"

#include "exec/executor.h"

namespace packlight {
namespace {

std::string failure(const test::OnnxCase& one, const std::filesystem::path& folder) {
  const import::OnnxNetwork network = import::load_onnx(folder / one.name / "model.onnx");
  exec::Executor executor(network.graph);
  std::unordered_map<std::string, at::Tensor> inputs;
  for (int i = 0; i < one.inputs; ++i) {
    inputs[network.graph.value(network.graph.inputs.at(i)).name] =
        test::read_onnx_tensor(test::onnx_case_file(folder, one, "input", i));
  }
  const auto outputs = executor.run(inputs);
  for (int i = 0; i < one.outputs; ++i) {
    const graph::Value& value = network.graph.value(network.graph.outputs.at(i));
    const at::Tensor& got = outputs.at(value.name);
    const std::string wrong = test::difference(
        got, test::read_onnx_tensor(test::onnx_case_file(folder, one, "output", i)), one);
    if (!wrong.empty()) return "output '" + value.name + "': " + wrong;
    if (!value.shape) continue;  // what was inferred must be what came out
    bool fits = value.shape->size() == got.sizes().size();
    for (size_t d = 0; fits && d < value.shape->size(); ++d)
      fits = !(*value.shape)[d].known() ||
             (*value.shape)[d].value == got.size(static_cast<int64_t>(d));
    if (!fits) return "output '" + value.name + "': inferred " + graph::to_string(*value.shape);
  }
  return "";
}

TEST(OnnxNodeCases, ExecutorAgreesWithOnnx) {
  exec::initialise(1);
  test::run_onnx_cases(
      "onnx node cases, executor",
      std::filesystem::path(PACKLIGHT_SOURCE_DIR) / "tests/import/onnx_node_cases_known.txt", 740,
      failure);
}

}  // namespace
}  // namespace packlight
