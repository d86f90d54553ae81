#pragma once

#include <ATen/ATen.h>

#include <map>
#include <string>
#include <vector>

#include "graph/error_of.h"
#include "graph/graph.h"

namespace packlight::graph {

inline const Dim n{std::string("n")}, m{std::string("m")};
inline std::vector<int64_t> list(std::initializer_list<int64_t> values) { return values; }

// A graph of one node; inputs are shapes (floats) or constant integers.
class OneNode {
 public:
  OneNode& input(Shape shape, ElementType type = ElementType::kF32) {
    inputs_.push_back(
        graph_.add_input("in" + std::to_string(inputs_.size()), type, std::move(shape)));
    return *this;
  }
  OneNode& unknown_rank() {
    const ValueId id =
        graph_.add_input("in" + std::to_string(inputs_.size()), ElementType::kF32, {});
    graph_.value(id).shape.reset();
    inputs_.push_back(id);
    return *this;
  }
  OneNode& constant(std::vector<int64_t> values) {
    at::Tensor tensor = at::empty({static_cast<int64_t>(values.size())}, at::kLong);
    std::copy(values.begin(), values.end(), tensor.data_ptr<int64_t>());
    inputs_.push_back(graph_.add_weight("in" + std::to_string(inputs_.size()), tensor));
    return *this;
  }
  OneNode& weight(at::Tensor tensor) {
    inputs_.push_back(graph_.add_weight("in" + std::to_string(inputs_.size()), std::move(tensor)));
    return *this;
  }
  OneNode& absent() {
    inputs_.push_back(kNone);
    return *this;
  }
  // The outputs' shapes, "F32[2, 3] F32[?]", or the error.
  std::string run(const std::string& op, std::map<std::string, Attribute> attributes = {},
                  int outputs = 1, const std::string& domain = "") {
    std::vector<std::string> names;
    for (int i = 0; i < outputs; ++i) names.push_back("out" + std::to_string(i));
    graph_.outputs = graph_.add_node(op, "node", inputs_, names, std::move(attributes), "");
    graph_.node(0).domain = domain;
    const std::string error = test::error_of([&] { infer_shapes(graph_); });
    if (!error.empty()) return error;
    std::string text;
    for (const ValueId id : graph_.outputs) {
      const Value& value = graph_.value(id);
      text += (text.empty() ? "" : " ") +
              (value.shape ? to_string(*value.shape) : std::string("unknown"));
    }
    return text;
  }
  Graph& graph() { return graph_; }

 private:
  Graph graph_;
  std::vector<ValueId> inputs_;
};

}  // namespace packlight::graph
