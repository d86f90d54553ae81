#pragma once

#include <map>
#include <string>
#include <vector>

#include "exec/operators.h"

namespace packlight::test {

using Attributes = std::map<std::string, graph::Attribute>;

inline std::vector<at::Tensor> run_all(const char* op, std::vector<at::Tensor> inputs,
                                       Attributes attributes = {}, size_t outputs = 1,
                                       const char* domain = "", exec::ExecOptions options = {}) {
  graph::Node node;
  node.name = "node";
  node.op = op;
  node.attributes = std::move(attributes);
  node.outputs.resize(outputs);
  return exec::find_operator(op, domain)(exec::Call{node, inputs, options});
}
inline at::Tensor run(const char* op, std::vector<at::Tensor> inputs, Attributes attributes = {}) {
  return run_all(op, std::move(inputs), std::move(attributes)).at(0);
}

}  // namespace packlight::test
