#include "eval/network_subject.h"

#include <ATen/ATen.h>

#include <cstring>

#include "base/fail.h"
#include "exec/executor.h"
#include "graph/weight.h"
#include "import/sources.h"
#include "runtime/network/engine.h"

namespace packlight::eval {
namespace {

runtime::Tensor as_runtime(const at::Tensor& tensor) {
  return {import::dtype_of(tensor.scalar_type()), tensor.sizes().vec(),
          static_cast<std::byte*>(tensor.data_ptr()), nullptr};
}

at::Tensor as_own(const runtime::Tensor& tensor) {
  at::Tensor copy = at::empty(tensor.dims, import::scalar_type_of(tensor.dtype));
  if (tensor.bytes() > 0) std::memcpy(copy.data_ptr(), tensor.data, tensor.bytes());
  return copy;
}

// The engine takes its inputs in order, and all of them.
std::vector<at::Tensor> in_order(const graph::Graph& graph, const NetworkSubject::Arrays& inputs) {
  std::vector<at::Tensor> ordered;
  for (const graph::ValueId id : graph.inputs) {
    const graph::Value& value = graph.value(id);
    const auto given = inputs.find(value.name);
    if (given != inputs.end()) {
      ordered.push_back(given->second.contiguous());
    } else if (value.weight) {
      ordered.push_back(exec::dense_weight(*value.weight).contiguous());
    } else {
      fail(ErrorCode::kInvalidArgument, "[eval] input '{}' of '{}' is not given", value.name,
           graph.name);
    }
  }
  return ordered;
}

}  // namespace

NetworkSubject graph_subject(const graph::Graph& graph) {
  auto executor = std::make_shared<exec::Executor>(graph);
  return {&graph,
          [executor](const NetworkSubject::Arrays& inputs) { return executor->run(inputs); }};
}

NetworkSubject package_subject(const io::NetworkPackage& package, const graph::Graph& graph,
                               int threads) {
  auto engine = std::make_shared<runtime::Engine>(package.network(),
                                                  std::make_shared<base::ThreadPool>(threads));
  return {&graph, [engine, &graph](const NetworkSubject::Arrays& inputs) {
            const std::vector<at::Tensor> arrays = in_order(graph, inputs);
            std::vector<runtime::Tensor> tensors;
            for (const at::Tensor& array : arrays) tensors.push_back(as_runtime(array));
            engine->run(tensors);
            NetworkSubject::Arrays outputs;
            for (size_t i = 0; i < graph.outputs.size(); ++i)
              outputs[graph.value(graph.outputs[i]).name] = as_own(engine->output(i));
            return outputs;
          }};
}

}  // namespace packlight::eval
