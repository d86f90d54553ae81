// ONNX files that are made to do harm: each an Error (what fuzzing finds is added here); and
// functions, whose bodies have names, attributes and opsets of their own.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "error_code.h"
#include "import/onnx.h"
#include "temp_dir.h"

namespace packlight {
namespace {

// A graph y = op(x), x a float tensor.
onnx::ModelProto small_model(const std::string& op, const std::string& domain = "") {
  onnx::ModelProto model;
  model.add_opset_import()->set_version(17);
  onnx::GraphProto& graph = *model.mutable_graph();
  onnx::ValueInfoProto& x = *graph.add_input();
  x.set_name("x");
  x.mutable_type()->mutable_tensor_type()->set_elem_type(onnx::TensorProto::FLOAT);
  graph.add_output()->set_name("y");
  onnx::NodeProto& node = *graph.add_node();
  node.set_op_type(op);
  node.set_domain(domain);
  node.add_input("x");
  node.add_output("y");
  return model;
}

import::OnnxNetwork load(const onnx::ModelProto& model){
    const std::string bytes = model.SerializeAsString();
return import::load_onnx(
    onnx_file::Model::parse(std::as_bytes(std::span(bytes)), "/nonexistent/hostile.onnx"));
}  // namespace

TEST(HostileOnnx, ASoundModelIsRead) {
  EXPECT_EQ(load(small_model("Relu")).graph.nodes().size(), 1u);
}

// What an older operator becomes depends on its inputs, which may not be there.
TEST(HostileOnnx, OldOperatorsWithoutTheirInputs) {
  const auto refused = [](const std::string& op, int opset, const std::string& part,
                          const std::function<void(onnx::NodeProto&)>& change) {
    onnx::ModelProto model = small_model(op);
    model.mutable_opset_import(0)->set_version(opset);
    change(*model.mutable_graph()->mutable_node(0));
    test::expect_error(ErrorCode::kCorrupt, {"hostile.onnx", op, part}, [&] { load(model); });
  };
  refused("Upsample", 9, "input 1 is missing", [](onnx::NodeProto&) {});
  refused("Resize", 10, "input 1 is missing", [](onnx::NodeProto& node) {
    node.add_input("");
    node.add_input("x");
  });
  refused("Softmax", 11, "input 0 is missing", [](onnx::NodeProto& node) { node.clear_input(); });
  refused("Softmax", 11, "no output", [](onnx::NodeProto& node) { node.clear_output(); });
}

// As many starts as there are numbers, for a tensor of two dimensions: nothing is allocated for
// them.
TEST(HostileOnnx, SliceOfMoreAxesThanMemory) {
  onnx::ModelProto model = small_model("Slice");
  onnx::GraphProto& graph = *model.mutable_graph();
  auto& x = *graph.mutable_input(0)->mutable_type()->mutable_tensor_type()->mutable_shape();
  x.add_dim()->set_dim_value(2);
  x.add_dim()->set_dim_value(2);
  for (const char* name : {"starts", "ends"}) {
    onnx::ValueInfoProto& input = *graph.add_input();
    input.set_name(name);
    auto& type = *input.mutable_type()->mutable_tensor_type();
    type.set_elem_type(onnx::TensorProto::INT64);
    type.mutable_shape()->add_dim()->set_dim_value(INT64_MAX);
    graph.mutable_node(0)->add_input(name);
  }
  test::expect_error(ErrorCode::kCorrupt, {"Slice", "starts for [2, 2]"}, [&] { load(model); });
}

// f0 calls f1 twice, f1 calls f2 twice, ...: 2^29 nodes in a few hundred bytes.
TEST(HostileOnnx, FunctionsThatMultiply) {
  onnx::ModelProto model = small_model("f0", "local");
  onnx::OperatorSetIdProto& local = *model.add_opset_import();
  local.set_domain("local");
  local.set_version(1);
  constexpr int kFunctions = 30;
  for (int i = 0; i < kFunctions; ++i) {
    onnx::FunctionProto& function = *model.add_functions();
    function.set_name("f" + std::to_string(i));
    function.set_domain("local");
    function.add_input("a");
    function.add_output("c");
    for (const auto& [from, to] : {std::pair("a", "b"), std::pair("b", "c")}) {
      onnx::NodeProto& node = *function.add_node();
      const bool last = i + 1 == kFunctions;
      node.set_op_type(last ? "Relu" : "f" + std::to_string(i + 1));
      if (!last) node.set_domain("local");
      node.add_input(from);
      node.add_output(to);
    }
    for (const auto& opset : model.opset_import()) *function.add_opset_import() = opset;
  }
  test::expect_error(ErrorCode::kUnsupported, {"hostile.onnx", "functions stand for more than"},
                     [&] { load(model); });
}

TEST(HostileOnnx, AFunctionThatCallsItself) {
  onnx::ModelProto model = small_model("f", "local");
  onnx::OperatorSetIdProto& local = *model.add_opset_import();
  local.set_domain("local");
  local.set_version(1);
  onnx::FunctionProto& function = *model.add_functions();
  function.set_name("f");
  function.set_domain("local");
  function.add_input("a");
  function.add_output("b");
  onnx::NodeProto& node = *function.add_node();
  node.set_op_type("f");
  node.set_domain("local");
  node.add_input("a");
  node.add_output("b");
  test::expect_error(ErrorCode::kUnsupported, {"call each other more than"}, [&] { load(model); });
}

onnx::TensorProto& add_initializer(onnx::ModelProto& model, const std::string& name, int type,
                                   int64_t elements) {
  onnx::TensorProto& tensor = *model.mutable_graph()->add_initializer();
  tensor.set_name(name);
  tensor.set_data_type(type);
  tensor.add_dims(elements);
  return tensor;
}

// Elements of 8 and 16 bits are in a field of 32, which may hold more than they do.
TEST(HostileOnnx, TypedElementsThatTheirTypeDoesNotHold) {
  using onnx::TensorProto;
  const auto read = [](int type, int32_t value) {
    onnx::ModelProto model = small_model("Relu");
    onnx::TensorProto& tensor = add_initializer(model, "w", type, 2);
    tensor.add_int32_data(0);
    tensor.add_int32_data(value);
    return load(model);
  };
  for (const auto& [type, value] :
       {std::pair(TensorProto::BOOL, 256), std::pair(TensorProto::INT8, 300),
        std::pair(TensorProto::UINT8, -129), std::pair(TensorProto::INT16, 1 << 16),
        std::pair(TensorProto::FLOAT16, 1 << 16), std::pair(TensorProto::INT16, -32769)}) {
    test::expect_error(ErrorCode::kCorrupt, {"'w'", "element 1 is " + std::to_string(value)},
                       [&, type = type, value = value] { read(type, value); });
  }
  for (const auto& [type, value] :
       {std::pair(TensorProto::BOOL, 1), std::pair(TensorProto::INT8, -128),
        std::pair(TensorProto::UINT8, 255), std::pair(TensorProto::INT16, -32768),
        std::pair(TensorProto::FLOAT16, 0xfc00), std::pair(TensorProto::INT32, 1 << 30)})
    EXPECT_NO_THROW(read(type, value)) << value;
}

// A link beside the model may lead anywhere: what it leads to is read only where it is the model's.
TEST(HostileOnnx, ExternalDataBehindALink) {
  namespace fs = std::filesystem;
  const test::TempDir dir;
  for (const char* folder : {"model", "blobs", "cache", "secret"})
    fs::create_directory(dir / folder);
  onnx::ModelProto model = small_model("Relu");
  onnx::TensorProto& tensor = add_initializer(model, "w", onnx::TensorProto::INT8, 4);
  tensor.set_data_location(onnx::TensorProto::EXTERNAL);
  onnx::StringStringEntryProto& location = *tensor.add_external_data();
  location.set_key("location");
  location.set_value("w.bin");
  const auto read = [&](const fs::path& path) {
    const std::string bytes = model.SerializeAsString();
    return import::load_onnx(onnx_file::Model::parse(std::as_bytes(std::span(bytes)), path));
  };
  for (const char* file : {"secret/w.bin", "blobs/w.bin", "model/other.bin"})
    std::ofstream(dir / file) << "abcd";
  fs::create_symlink("../secret/w.bin", dir / "model/w.bin");
  test::expect_error(ErrorCode::kCorrupt, {"'w'", "'w.bin'", "outside the model's folder"},
                     [&] { read(dir / "model/model.onnx"); });
  fs::remove(dir / "model/w.bin");
  fs::create_symlink("w.bin", dir / "model/w.bin");  // to itself
  test::expect_error(ErrorCode::kCorrupt, {"'w.bin'"}, [&] { read(dir / "model/model.onnx"); });
  fs::remove(dir / "model/w.bin");
  fs::create_symlink("other.bin", dir / "model/w.bin");
  EXPECT_NO_THROW(read(dir / "model/model.onnx"));
  fs::create_directory_symlink("model", dir / "link");  // a folder by another name
  EXPECT_NO_THROW(read(dir / "link/model.onnx"));
  // A cache of downloads: the model and its data are links to files beside each other.
  std::ofstream(dir / "blobs/model.onnx") << model.SerializeAsString();
  fs::create_symlink("../blobs/model.onnx", dir / "cache/model.onnx");
  fs::create_symlink("../blobs/w.bin", dir / "cache/w.bin");
  EXPECT_NO_THROW(read(dir / "cache/model.onnx"));
}

// A function of one input and one output, and the model that calls it.
onnx::FunctionProto& add_function(onnx::ModelProto& model, const std::string& name) {
  if (model.opset_import_size() < 2) {
    onnx::OperatorSetIdProto& local = *model.add_opset_import();
    local.set_domain("local");
    local.set_version(1);
  }
  onnx::FunctionProto& function = *model.add_functions();
  function.set_name(name);
  function.set_domain("local");
  function.add_input("a");
  function.add_output("b");
  for (const auto& opset : model.opset_import()) *function.add_opset_import() = opset;
  return function;
}

template <class Nodes>
onnx::NodeProto& add_node(Nodes& nodes, const std::string& op,
                          const std::vector<std::string>& inputs, const std::string& output) {
  onnx::NodeProto& node = *nodes.add_node();
  node.set_op_type(op);
  for (const std::string& input : inputs) node.add_input(input);
  node.add_output(output);
  return node;
}

onnx::AttributeProto& add_attribute(onnx::NodeProto& node, const std::string& name,
                                    onnx::AttributeProto::AttributeType type) {
  onnx::AttributeProto& attribute = *node.add_attribute();
  attribute.set_name(name);
  attribute.set_type(type);
  return attribute;
}

void refer(onnx::NodeProto& node, const std::string& name, const std::string& of) {
  add_attribute(node, name, onnx::AttributeProto::FLOAT).set_ref_attr_name(of);
}

// What a function's attribute is in a subgraph of its body, and in a function called there.
TEST(OnnxFunctions, SubgraphsSeeTheAttributesOfTheirFunction) {
  onnx::ModelProto model = small_model("outer", "local");
  onnx::NodeProto& call = *model.mutable_graph()->mutable_node(0);
  add_attribute(call, "slope", onnx::AttributeProto::FLOAT).set_f(0.5f);
  onnx::FunctionProto& outer = add_function(model, "outer");
  onnx::NodeProto& condition = add_node(outer, "Constant", {}, "c");
  onnx::TensorProto& truth =
      *add_attribute(condition, "value", onnx::AttributeProto::TENSOR).mutable_t();
  truth.set_data_type(onnx::TensorProto::BOOL);
  truth.add_int32_data(1);
  onnx::NodeProto& choice = add_node(outer, "If", {"c"}, "b");
  for (const char* name : {"then_branch", "else_branch"}) {
    onnx::GraphProto& branch =
        *add_attribute(choice, name, onnx::AttributeProto::GRAPH).mutable_g();
    branch.set_name(name);
    branch.add_output()->set_name("t");
    if (std::string(name) == "then_branch") {
      refer(add_node(branch, "LeakyRelu", {"a"}, "t"), "alpha", "slope");
    } else {
      onnx::NodeProto& inner = add_node(branch, "inner", {"a"}, "t");
      inner.set_domain("local");
      refer(inner, "passed", "slope");
    }
  }
  onnx::FunctionProto& inner = add_function(model, "inner");
  refer(add_node(inner, "LeakyRelu", {"a"}, "m"), "alpha", "passed");
  refer(add_node(inner, "LeakyRelu", {"m"}, "b"), "alpha", "slope");  // none of its own
  const graph::Graph graph = load(model).graph;
  ASSERT_EQ(graph.nodes().size(), 1u);
  const auto branch = [&](const char* name) {
    return std::get<std::shared_ptr<graph::Graph>>(graph.node(0).attributes.at(name));
  };
  EXPECT_EQ(branch("then_branch")->node(0).number("alpha", 0.01), 0.5);
  EXPECT_EQ(branch("else_branch")->node(0).number("alpha", 0.01), 0.5);
  EXPECT_EQ(branch("else_branch")->node(1).number("alpha", 0.01), 0.01);
}

// Names in a function are its own: a 4-bit tensor of the graph is none of those that it is given.
TEST(OnnxFunctions, FourBitsGoByValue) {
  onnx::ModelProto model = small_model("dequantize", "local");
  model.mutable_opset_import(0)->set_version(21);
  onnx::GraphProto& graph = *model.mutable_graph();
  for (const auto& [name, type] : {std::pair("w", 22), std::pair("w8", 3)}) {  // INT4, INT8
    onnx::TensorProto& tensor = *graph.add_initializer();
    tensor.set_name(name);
    tensor.set_data_type(type);
    tensor.add_dims(2);
    tensor.set_raw_data(type == 22 ? std::string("\x21") : std::string("\x64\x01"));
  }
  onnx::TensorProto& scale = *graph.add_initializer();
  scale.set_name("scale");
  scale.set_data_type(onnx::TensorProto::FLOAT);
  scale.add_float_data(1);
  graph.clear_node();
  onnx::FunctionProto& function = add_function(model, "dequantize");
  function.add_input("s");
  function.set_input(0, "w");
  add_node(function, "DequantizeLinear", {"w", "s"}, "b");
  for (const char* codes : {"w8", "w"}) {
    add_node(graph, "dequantize", {codes, "scale"}, std::string("of_") + codes).set_domain("local");
  }
  add_node(graph, "Add", {"of_w8", "of_w"}, "y");
  const graph::Graph read = load(model).graph;
  ASSERT_EQ(read.nodes().size(), 3u);
  EXPECT_EQ(read.node(0).integer("bits", 8), 8);
  EXPECT_EQ(read.node(1).integer("bits", 8), 4);
}

// Nodes of an opset that is not read would be taken for something else.
TEST(OnnxFunctions, OpsetsAreChecked) {
  for (const int64_t version : {6, 7, 23, 24}) {
    onnx::ModelProto model = small_model("f", "local");
    onnx::FunctionProto& function = add_function(model, "f");
    function.mutable_opset_import(0)->set_version(version);
    add_node(function, "Relu", {"a"}, "b");
    if (version == 7 || version == 23) {
      EXPECT_EQ(load(model).graph.nodes().size(), 1u);
      continue;
    }
    test::expect_error(ErrorCode::kUnsupported,
                       {"hostile.onnx", "'f'", "opset " + std::to_string(version)},
                       [&] { load(model); });
  }
}

}  // namespace packlight
}  // namespace packlight
