#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "exec/executor.h"
#include "exec/operators.h"
#include "exec/tensor_compare.h"
#include "graph/graph.h"

namespace packlight::test {

using Attributes = std::map<std::string, graph::Attribute>;

// Builds graphs by hand: op() names nodes and values by number.
struct SmallNet {
  graph::Graph graph;
  int made = 0;

  graph::ValueId input(const std::string& name, graph::Shape shape) {
    return graph.add_input(name, graph::ElementType::kF32, std::move(shape));
  }
  graph::ValueId constant(at::Tensor tensor) {
    return graph.add_weight("w" + std::to_string(made++), std::move(tensor));
  }
  graph::ValueId number(double value) { return constant(at::full({}, value, at::kFloat)); }
  graph::ValueId ints(std::vector<int64_t> values) {
    return constant(integers(values, {static_cast<int64_t>(values.size())}));
  }
  std::vector<graph::ValueId> ops(const std::string& op, std::vector<graph::ValueId> inputs,
                                  Attributes attributes = {}, int outputs = 1) {
    const std::string name = op + std::to_string(made++);
    std::vector<std::string> names;
    for (int i = 0; i < outputs; ++i) names.push_back(name + ".out" + std::to_string(i));
    return graph.add_node(op, name, std::move(inputs), names, std::move(attributes), "");
  }
  graph::ValueId op(const std::string& op, std::vector<graph::ValueId> inputs,
                    Attributes attributes = {}) {
    return ops(op, std::move(inputs), std::move(attributes))[0];
  }
  SmallNet& returns(std::vector<graph::ValueId> outputs) {
    graph.outputs = std::move(outputs);
    graph::infer_shapes(graph);
    graph::verify(graph);
    return *this;
  }
};

inline int count(const graph::Graph& graph, const std::string& op) {
  return static_cast<int>(std::count_if(graph.nodes().begin(), graph.nodes().end(),
                                        [&](const graph::Node& node) { return node.op == op; }));
}

// Noise for every input, unknown dimensions `open` long.
inline std::unordered_map<std::string, at::Tensor> noise_inputs(const graph::Graph& graph,
                                                                int64_t open = 3) {
  std::unordered_map<std::string, at::Tensor> inputs;
  for (const graph::ValueId id : graph.inputs) {
    std::vector<int64_t> shape;
    for (const graph::Dim& dim : *graph.value(id).shape)
      shape.push_back(dim.known() ? dim.value : open);
    inputs[graph.value(id).name] = noise(shape, 7 + id);
  }
  return inputs;
}

// Both graphs give the same outputs under the same names: up to `roundings` of the largest number
// that either of them has on the way (0: exactly).
inline void expect_same_outputs(const graph::Graph& before, const graph::Graph& after,
                                int roundings, int64_t open = 3) {
  ASSERT_NO_THROW(graph::verify(after));
  const auto inputs = noise_inputs(before, open);
  double largest = 0;
  const exec::NodeObserver observe = [&](const graph::Node&, std::span<const at::Tensor> values) {
    for (const at::Tensor& value : values) {
      if (value.defined() && value.is_floating_point() && value.numel() > 0)
        largest = std::max(largest, at::nan_to_num(value).abs().max().item<double>());
    }
  };
  const auto want = exec::Executor(before).run(inputs, observe);
  const auto got = exec::Executor(after).run(inputs, observe);
  ASSERT_EQ(got.size(), want.size());
  for (const auto& [name, tensor] : want) {
    ASSERT_EQ(got.count(name), 1u) << name;
    EXPECT_TRUE(close(got.at(name), tensor, roundings * 0x1p-24 * largest)) << name;
  }
}

}  // namespace packlight::test
