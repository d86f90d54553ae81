#include "exec/evaluate.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>

#include "base/fail.h"
#include "exec/operators.h"

namespace packlight::exec {

std::vector<at::Tensor> evaluate_node(const graph::Graph& graph, const graph::Node& node,
                                      std::span<const at::Tensor> inputs) {
  const c10::AutoGradMode no_gradients(false);
  const OperatorFunction run = find_operator(node.op, node.domain);
  if (run == nullptr) {
    fail(ErrorCode::kUnsupported, "[exec] '{}', node '{}': operator '{}{}{}' is not implemented",
         graph.name, node.name, node.domain, node.domain.empty() ? "" : ".", node.op);
  }
  std::vector<at::Tensor> dense;
  for (const at::Tensor& input : inputs)
    dense.push_back(input.defined() ? dense_weight(input) : input);
  const ExecOptions options;
  Call call{node, dense, options};
  call.run_subgraph = [](const graph::Graph& body,
                         std::span<const at::Tensor>) -> std::vector<at::Tensor> {
    fail(ErrorCode::kUnsupported, "subgraph '{}' cannot run by itself", body.name);
  };
  try {
    return run(call);
  } catch (const c10::Error& error) {
    fail(ErrorCode::kInvalidArgument, "[exec] '{}', node '{}' ({}): {}", graph.name, node.name,
         node.op, error.what_without_backtrace());
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("[exec] '{}', node '{}' ({}): {}", graph.name, node.name,
                                          node.op, error.what()));
  }
}

}  // namespace packlight::exec
