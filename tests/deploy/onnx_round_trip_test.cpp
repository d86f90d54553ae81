// The onnx package's own tests of every operator that the importer reads: read, written, read
// again.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "deploy/onnx_writer.h"
#include "exec/executor.h"
#include "import/onnx.h"
#include "import/sources.h"
#include "onnx_file/model.h"
#include "onnx_node_cases.h"
#include "packlight/error.h"
#include "temp_dir.h"
#include "text/run_oracle.h"

namespace packlight {
namespace {

namespace fs = std::filesystem;
using Tensors = std::unordered_map<std::string, at::Tensor>;

// By position: a cast at the graph's boundary may rename what is inside.
std::vector<at::Tensor> run(const graph::Graph& graph, const fs::path& folder, int inputs) {
  Tensors feeds;
  for (int i = 0; i < inputs; ++i)
    feeds[graph.value(graph.inputs.at(i)).name] =
        test::read_onnx_tensor(folder / ("input_" + std::to_string(i) + ".pb"));
  exec::Executor executor(graph);
  auto made = executor.run(feeds);
  std::vector<at::Tensor> outputs;
  for (const graph::ValueId id : graph.outputs) outputs.push_back(made.at(graph.value(id).name));
  return outputs;
}

std::string difference(const std::vector<at::Tensor>& got, const std::vector<at::Tensor>& want,
                       double rtol, double atol) {
  for (size_t i = 0; i < want.size(); ++i) {
    if (got[i].scalar_type() != want[i].scalar_type() || got[i].sizes() != want[i].sizes())
      return "output " + std::to_string(i) + " has another type or shape";
    const at::Tensor a = got[i].to(at::kDouble), b = want[i].to(at::kDouble);
    const at::Tensor equal =
        at::logical_or(at::logical_or(a == b, at::abs(a - b) <= at::abs(b) * rtol + atol),
                       at::logical_and(at::isnan(a), at::isnan(b)));
    if (!equal.all().item<bool>()) return "output " + std::to_string(i) + " differs";
  }
  return "";
}

TEST(OnnxRoundTrip, ReadWrittenReadAgain) {
  PACKLIGHT_NEEDS(test::oracle_python());
  const fs::path folder = test::onnx_cases_folder();
  exec::initialise(1);
  test::TempDir written;
  const char* chosen = std::getenv("PACKLIGHT_ONNX_CASES");
  int read = 0, same = 0, refused = 0, not_read = 0;
  std::ifstream cases(folder / "cases.txt");
  for (std::string line; std::getline(cases, line);) {
    std::istringstream words(line);
    std::string name;
    double rtol = 0, atol = 0;
    int inputs = 0;
    words >> name >> rtol >> atol >> inputs;
    if (chosen != nullptr && name.find(chosen) == std::string::npos) continue;
    import::OnnxNetwork network;
    std::vector<at::Tensor> want;
    try {
      network = import::load_onnx(folder / name / "model.onnx");
      want = run(network.graph, folder / name, inputs);
    } catch (const Error&) {  // the business of the importer's and the executor's tests
      ++not_read;
      continue;
    }
    ++read;
    for (const int64_t opset : {23, 17, 13}) {
      const fs::path path = written / (name + "." + std::to_string(opset) + ".onnx");
      try {
        deploy::OnnxOptions options;
        options.opset = opset;
        deploy::write_onnx(network.graph, path, options);
      } catch (const Error& error) {
        ++refused;
        const bool allowed = opset < 23 && error.code() == ErrorCode::kUnsupported;
        EXPECT_TRUE(allowed) << name << ": " << error.what();
        std::cout << name << ": " << error.what() << "\n";
        continue;
      }
      try {
        const import::OnnxNetwork again = import::load_onnx(path);
        // What opset 23 says is what was read: the same bits. Older forms sum in another order.
        const bool exact = opset == 23;
        const std::string wrong = difference(run(again.graph, folder / name, inputs), want,
                                             exact ? 0 : rtol, exact ? 0 : atol);
        EXPECT_EQ(wrong, "") << name << " at opset " << opset;
        same += wrong.empty();
      } catch (const Error& error) {
        ADD_FAILURE() << name << " at opset " << opset << ": " << error.what();
      }
    }
  }
  std::cout << "onnx node cases: " << read << " read (" << not_read << " not), " << same
            << " files the same, " << refused << " refused by opset\n";
  const std::string checked = test::run_oracle(
      "check_onnx.py", "cases '" + folder.string() + "' '" + written.path().string() + "'");
  std::cout << checked;
  EXPECT_NE(checked.find(" 0 wrong"), std::string::npos);
  EXPECT_GT(read, 0);
}

}  // namespace
}  // namespace packlight
