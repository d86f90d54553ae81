#include <ATen/ATen.h>

#include <chrono>
#include <thread>

#include "base/fail.h"
#include "cli/compress/network_flags.h"
#include "cli/verbs.h"
#include "exec/executor.h"
#include "graph/weight.h"
#include "import/sources.h"

namespace packlight::cli {
namespace {

std::vector<NetworkInput> inputs_of(const graph::Graph& graph) {
  std::vector<NetworkInput> inputs;
  for (const graph::ValueId id : graph.inputs) {
    const graph::Value& value = graph.value(id);
    NetworkInput input{value.name, std::nullopt, std::nullopt};
    if (value.type != graph::ElementType::kUndefined)
      input.dtype = import::dtype_of(graph::to_scalar_type(value.type));
    if (value.shape) {
      input.shape.emplace();
      for (const graph::Dim& dim : *value.shape) input.shape->push_back({dim.value, dim.symbol});
    }
    inputs.push_back(std::move(input));
  }
  return inputs;
}

// `tensor` must be contiguous and outlive the record.
io::TensorRecord record_of(const std::string& name, const at::Tensor& tensor) {
  return {name,
          import::dtype_of(tensor.scalar_type()),
          tensor.sizes().vec(),
          {static_cast<const std::byte*>(tensor.data_ptr()), tensor.nbytes()},
          nullptr};
}

}  // namespace

void run_network(const NetworkRunFlags& flags) {
  const int threads = flags.threads > 0
                          ? flags.threads
                          : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  exec::initialise(threads);
  const import::OnnxNetwork network = load_network(flags.model);
  const graph::Graph& graph = network.graph;
  check_outputs(flags.output, graph.outputs.size());
  std::unordered_map<std::string, at::Tensor> arrays;
  for (const io::TensorRecord& record :
       read_inputs(flags.inputs, inputs_of(graph), flags.model,
                   preprocess_of_model(flags.model, flags.preprocess)))
    arrays[record.name] = import::tensor_view(record).clone();
  exec::Executor executor(graph);
  const auto start = std::chrono::steady_clock::now();
  const auto outputs = executor.run(arrays);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::vector<at::Tensor> made;
  std::vector<io::TensorRecord> records;
  for (const graph::ValueId id : graph.outputs) {
    const std::string& name = graph.value(id).name;
    made.push_back(outputs.at(name).contiguous());
    records.push_back(record_of(name, made.back()));
  }
  const auto characters = network.metadata.find(kCharactersKey);
  report_outputs(flags.output, records, seconds,
                 characters == network.metadata.end() ? "" : characters->second);
}

}  // namespace packlight::cli
