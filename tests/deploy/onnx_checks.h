#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>

#include <fstream>
#include <limits>
#include <sstream>

#include "deploy/onnx_tensor_store.h"
#include "deploy/onnx_writer.h"
#include "exec/executor.h"
#include "graph/weight.h"
#include "temp_dir.h"
#include "text/run_oracle.h"

// Written ONNX files, read by the onnx package's checker and run by ONNX Runtime.
namespace packlight::test {

namespace fs = std::filesystem;
using deploy::OnnxOptions;
using graph::Graph;
using graph::Shape;
using graph::ValueId;

inline constexpr int64_t kOpsets[] = {13, 17, 18, 21, 23};
// Sums of at most a few hundred terms in another order, as a share of the output's range.
inline constexpr double kRounding = 256 * std::numeric_limits<float>::epsilon();

// A graph built by hand: types and shapes are given, so that no shape rule is needed.
struct GraphBuilder {
  Graph graph;
  ValueId input(const std::string& name, Shape shape,
                graph::ElementType type = graph::ElementType::kF32) {
    return graph.add_input(name, type, std::move(shape));
  }
  ValueId weight(const std::string& name, at::Tensor tensor) {
    return graph.add_weight(name, std::move(tensor));
  }
  std::vector<ValueId> node(const std::string& op, std::vector<ValueId> inputs,
                            std::vector<std::string> outputs,
                            std::map<std::string, graph::Attribute> attributes, Shape shape,
                            graph::ElementType type = graph::ElementType::kF32) {
    const auto made = graph.add_node(op, "node." + outputs[0], std::move(inputs), outputs,
                                     std::move(attributes), "");
    for (const ValueId id : made) {
      graph.value(id).type = type;
      graph.value(id).shape = shape;
    }
    return made;
  }
};

// The largest difference the oracle reports for each file.
inline std::vector<double> differences(const std::string& printed) {
  std::vector<double> found;
  std::istringstream lines(printed);
  for (std::string line; std::getline(lines, line);) {
    const size_t at = line.rfind(' ');
    if (line.find(" difference ") != std::string::npos) found.push_back(std::stod(line.substr(at)));
  }
  return found;
}

inline std::string quoted(const fs::path& path) { return "'" + path.string() + "' "; }

inline void expect_close(const std::string& arguments, size_t files, double bound) {
  const std::string printed = run_oracle("check_onnx.py", arguments);
  std::cout << printed;
  const auto found = differences(printed);
  EXPECT_EQ(found.size(), files);
  for (const double difference : found) EXPECT_LE(difference, bound) << printed;
}

// Writes at every opset (what an opset refuses is an error of the test), and compares with
// `original`, by default what is written at opset 23.
inline void expect_same(const Graph& graph, const std::string& dims, double bound = kRounding,
                        fs::path original = {}, OnnxOptions options = {}) {
  TempDir folder;
  std::string files;
  for (const int64_t opset : kOpsets) {
    const fs::path path = folder / ("opset" + std::to_string(opset) + ".onnx");
    options.opset = opset;
    EXPECT_EQ(deploy::write_onnx(graph, path, options).opset, opset);
    files += quoted(path);
    if (opset == 23 && original.empty()) original = path;
  }
  expect_close("compare " + quoted(original) + "'" + dims + "' " + files, std::size(kOpsets),
               bound);
}

// The same against what exec/ computes.
inline void expect_as_executed(const Graph& graph,
                               std::unordered_map<std::string, at::Tensor> values,
                               const std::vector<OnnxOptions>& variants, double bound) {
  TempDir folder;
  exec::Executor executor(graph);
  for (auto& [name, tensor] : executor.run(values)) values[name] = tensor;
  onnx::GraphProto data;
  deploy::OnnxTensorStore store(nullptr, "");
  for (const auto& [name, value] : values) {
    const at::Tensor dense = value.contiguous();
    store.add(data, name,
              static_cast<int>(graph::to_onnx_type(graph::from_scalar_type(dense.scalar_type()))),
              dense.sizes().vec(),
              {static_cast<const std::byte*>(dense.data_ptr()), dense.nbytes()});
  }
  write_file(folder / "data.pb", std::string_view(data.SerializeAsString()));
  std::string files;
  for (size_t i = 0; i < variants.size(); ++i) {
    const fs::path path = folder / ("variant" + std::to_string(i) + ".onnx");
    const auto report = deploy::write_onnx(graph, path, variants[i]);
    for (const std::string& notice : report.notices) std::cout << "notice: " << notice << "\n";
    files += quoted(path);
  }
  expect_close("against " + quoted(folder / "data.pb") + files, variants.size(), bound);
}

inline onnx::ModelProto read_model(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  onnx::ModelProto proto;
  EXPECT_TRUE(proto.ParseFromIstream(&in));
  return proto;
}

}  // namespace packlight::test
