// The onnx package's own tests of every operator, through the importer, a package and the runtime's
// engine.
#include <cstring>

#include "base/fail.h"
#include "deploy/network.h"
#include "deploy/network_package.h"
#include "exec/executor.h"
#include "io/network_json.h"
#include "io/network_package.h"
#include "onnx_node_cases.h"
#include "runtime/network/engine.h"
#include "temp_dir.h"

namespace packlight {
namespace {

runtime::Tensor view_of(const at::Tensor& tensor) {
  return {import::dtype_of(tensor.scalar_type()), tensor.sizes().vec(),
          static_cast<std::byte*>(tensor.data_ptr()), nullptr};
}

at::Tensor copy_of(const runtime::Tensor& tensor) {
  at::Tensor copy = at::empty(tensor.dims, import::scalar_type_of(tensor.dtype));
  if (copy.numel() > 0) std::memcpy(copy.data_ptr(), tensor.data, tensor.bytes());
  return copy;
}

// What a package makes of a network: the same, read as a network or as a graph.
std::shared_ptr<const io::Network> through_package(const graph::Graph& graph) {
  const test::TempDir dir;
  const auto path = dir / "case.plk";
  deploy::write_network_package(graph, {}, path);
  const Json want = io::network_to_json(*deploy::to_network(graph));
  const io::NetworkPackage package = io::NetworkPackage::open(path);
  if (io::network_to_json(*package.network()) != want)
    fail(ErrorCode::kInternal, "the package holds another network");
  const import::OnnxNetwork read = import::load_network_package(path);
  if (io::network_to_json(*deploy::to_network(read.graph)) != want)
    fail(ErrorCode::kInternal, "the package's graph is another network");
  return package.network();
}

// Twice, and then with another plan in between where that is possible: what a run leaves must not
// change the next.
std::string failure(const test::OnnxCase& one, const std::filesystem::path& folder) {
  const import::OnnxNetwork model = import::load_onnx(folder / one.name / "model.onnx");
  const auto network = through_package(model.graph);
  for (const int threads : {1, 2}) {
    runtime::Engine engine(network, std::make_shared<base::ThreadPool>(threads));
    std::vector<at::Tensor> tensors;
    std::vector<runtime::Tensor> inputs;
    for (int i = 0; i < one.inputs; ++i) {
      tensors.push_back(
          test::read_onnx_tensor(test::onnx_case_file(folder, one, "input", i)).contiguous());
      const at::ScalarType type = tensors.back().scalar_type();
      if (type == at::kShort) return "skip: inputs of I16 are not the runtime's";
      inputs.push_back(view_of(tensors.back()));
    }
    for (int run = 0; run < 2; ++run) {
      engine.run(inputs);
      for (int i = 0; i < one.outputs; ++i) {
        const std::string wrong = test::difference(
            copy_of(engine.output(i)),
            test::read_onnx_tensor(test::onnx_case_file(folder, one, "output", i)), one);
        if (!wrong.empty())
          return fmt::format("output {}, {} threads, run {}: {}", i, threads, run + 1, wrong);
      }
    }
  }
  return "";
}

TEST(OnnxNodeCases, RuntimeAgreesWithOnnx) {
  exec::initialise(1);
  test::run_onnx_cases(
      "onnx node cases, runtime",
      std::filesystem::path(PACKLIGHT_SOURCE_DIR) / "tests/deploy/runtime_node_cases_known.txt",
      740, failure);
}

}  // namespace
}  // namespace packlight
