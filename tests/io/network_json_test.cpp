#include "io/network_json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "error_code.h"
#include "fuzz/io_entries.h"
#include "fuzz/network_entry.h"
#include "io/hostile.h"
#include "temp_dir.h"

namespace packlight::io {
namespace {

using codec::DType;
using test::expect_error;

const std::filesystem::path kCorpus =
    std::filesystem::path(PACKLIGHT_SOURCE_DIR) / "tests/io/corpus/network";

TensorRecord record(std::string name, std::vector<int64_t> shape) {
  static constexpr float kValues[6] = {1, 2, 3, 4, 5, 6};
  TensorRecord record{std::move(name), DType::kF32, std::move(shape), {}, nullptr};
  record.bytes = std::as_bytes(std::span(kValues)).first(record.elements() * sizeof(float));
  return record;
}

NetworkValue constant(const std::string& name, std::vector<int64_t> shape) {
  NetworkValue value;
  value.name = name;
  value.shape.emplace();
  for (const int64_t dim : shape) value.shape->push_back({dim, ""});
  value.constant = NetworkConstant{record(name, shape), {}};
  return value;
}

NetworkValue plain(const std::string& name) {
  NetworkValue value;
  value.name = name;
  return value;
}

// if (condition) x + w else x, with one name for several tensors.
Network sample() {
  auto branch = std::make_shared<Network>();
  branch->name = "then";
  branch->values = {plain("x"), constant("w", {2}), plain("y")};
  branch->nodes = {{"add", "Add", "", {0, 1}, {2}, {}, 0}};
  branch->inputs = {0};
  branch->outputs = {2};
  auto other = std::make_shared<Network>();
  other->values = {plain("x")};
  other->inputs = other->outputs = {0};

  Network network;
  network.name = "sample";
  network.values = {plain("x"), plain("condition"), constant("w", {2, 3}),
                    plain("y"), plain("z"),         constant("other.value", {1})};
  network.values[0].dtype = DType::kF32;
  network.values[0].shape = {{-1, "batch"}, {-1, ""}, {3, ""}};
  network.values[1].dtype = DType::kBool;
  network.values[1].shape = std::vector<NetworkDim>();
  network.nodes = {{"if", "If", "", {1, 0}, {3}, {}, 1},
                   {"other", "Op", "own", {3, kNoValue}, {kNoValue, 4}, {}, 0}};
  network.nodes[0].attributes["then_branch"] = std::shared_ptr<const Network>(branch);
  network.nodes[0].attributes["else_branch"] = std::shared_ptr<const Network>(other);
  network.nodes[1].attributes = {{"value", record("value", {3})},
                                 {"axis", int64_t{-9007199254740993}},
                                 {"alpha", 0.1},
                                 {"limit", -INFINITY},
                                 {"mode", std::string("a \"b\"")},
                                 {"perm", std::vector<int64_t>{1, 0}},
                                 {"none", std::vector<int64_t>{}},
                                 {"betas", std::vector<double>{2, INFINITY}},
                                 {"names", std::vector<std::string>{"Tanh", ""}}};
  network.inputs = {0, 1};
  network.outputs = {4, 3};
  network.metadata = {{"character", "abc\n"}};
  return network;
}

// As a package does it: JSON as text, tensors by name.
Network through_text(const Network& network) {
  std::map<std::string, NetworkConstant> stored;
  for (const NetworkTensor& tensor : network_tensors(network)) {
    EXPECT_NE(tensor.constant == nullptr, tensor.attribute == nullptr);
    const NetworkConstant one =
        tensor.constant != nullptr ? *tensor.constant : NetworkConstant{*tensor.attribute, {}};
    EXPECT_TRUE(stored.emplace(tensor.name, one).second) << tensor.name;
  }
  return network_from_json(
      base::parse_json(network_to_json(network).dump(), "x.plk"),
      [&](const NetworkTensorSpec& spec) { return stored.at(spec.name); }, "x.plk");
}

void expect_same(const TensorRecord& got, const TensorRecord& want) {
  EXPECT_EQ(got.dtype, want.dtype);
  EXPECT_EQ(got.shape, want.shape);
  EXPECT_EQ(got.bytes.data(), want.bytes.data());  // a view, not a copy
  EXPECT_EQ(got.bytes.size(), want.bytes.size());
}

void expect_same(const Network& got, const Network& want);

void expect_same(const NetworkNode& got, const NetworkNode& want) {
  EXPECT_EQ(got.name, want.name);
  EXPECT_EQ(got.op, want.op);
  EXPECT_EQ(got.domain, want.domain);
  EXPECT_EQ(got.inputs, want.inputs);
  EXPECT_EQ(got.outputs, want.outputs);
  EXPECT_EQ(got.captures, want.captures);
  ASSERT_EQ(got.attributes.size(), want.attributes.size());
  for (const auto& [name, value] : want.attributes) {
    SCOPED_TRACE(name);
    const auto& read = got.attributes.at(name);
    ASSERT_EQ(read.index(), value.index());
    std::visit(
        [&](const auto& v) {
          using T = std::decay_t<decltype(v)>;
          if constexpr (std::is_same_v<T, TensorRecord>) {
            expect_same(std::get<T>(read), v);
          } else if constexpr (std::is_same_v<T, std::shared_ptr<const Network>>) {
            expect_same(*std::get<T>(read), *v);
          } else {
            EXPECT_EQ(std::get<T>(read), v);
          }
        },
        value);
  }
}

void expect_same(const Network& got, const Network& want) {
  EXPECT_EQ(got.name, want.name);
  EXPECT_EQ(got.inputs, want.inputs);
  EXPECT_EQ(got.outputs, want.outputs);
  EXPECT_EQ(got.metadata, want.metadata);
  ASSERT_EQ(got.values.size(), want.values.size());
  for (size_t i = 0; i < want.values.size(); ++i) {
    SCOPED_TRACE(want.values[i].name);
    EXPECT_EQ(got.values[i].name, want.values[i].name);
    EXPECT_EQ(got.values[i].dtype, want.values[i].dtype);
    EXPECT_EQ(got.values[i].shape, want.values[i].shape);
    ASSERT_EQ(got.values[i].constant.has_value(), want.values[i].constant.has_value());
    if (want.values[i].constant)
      expect_same(got.values[i].constant->record, want.values[i].constant->record);
  }
  ASSERT_EQ(got.nodes.size(), want.nodes.size());
  for (size_t i = 0; i < want.nodes.size(); ++i) expect_same(got.nodes[i], want.nodes[i]);
}

TEST(NetworkJsonTest, ReadsWhatWasWritten) {
  const Network network = sample();
  expect_same(through_text(network), network);
}

TEST(NetworkJsonTest, NamesOfTensorsAreUnique) {
  const Network network = sample();
  std::vector<std::string> names;
  for (const NetworkTensor& tensor : network_tensors(network)) names.push_back(tensor.name);
  // The attribute `value` of node `other` would be called as a constant is.
  EXPECT_EQ(names,
            (std::vector<std::string>{"w", "other.value", "if.then_branch.w", "other.value.2"}));
}

TEST(NetworkJsonTest, NamesLeaveRoomForThePartsOfPackedTensors) {
  Network network;
  network.values = {constant("w.scales", {1}), constant("w", {1}), constant("w.2.zeros", {1}),
                    constant("padding.64", {1})};
  std::vector<std::string> names;
  for (const NetworkTensor& tensor : network_tensors(network)) names.push_back(tensor.name);
  EXPECT_EQ(names[0], "w.scales");
  EXPECT_EQ(names[1], "w.2");
  EXPECT_EQ(names[2], "w.2.zeros.2");
  EXPECT_EQ(names[3], "_padding.64");
  expect_same(through_text(network), network);
}

TEST(NetworkJsonTest, RefusesNamesThatAreNoText) {
  Network network = sample();
  network.nodes[1].attributes["mode"] = std::string("\xff");
  expect_error(ErrorCode::kInvalidArgument, {"UTF-8"}, [&] { network_to_json(network); });
}

Json corpus_json() { return base::read_json_file(kCorpus / "loop.json"); }

Network read(const Json& json) { return network_from_json(json, fuzz::network_constant, "x.plk"); }

TEST(NetworkJsonTest, ReadsPackedTensors) {
  const Network network = read(corpus_json());
  ASSERT_TRUE(network.values[2].constant && network.values[2].constant->is_packed());
  EXPECT_EQ(network.values[2].constant->packed.rows, 20);
  EXPECT_EQ(through_text(network).values[2].constant->packed.data.data(),
            network.values[2].constant->packed.data.data());
}

struct Hostile {
  const char* name;
  std::vector<std::pair<const char*, Json>> changes;  // JSON pointer, new value
  std::vector<std::string> says;
};

Json deep_shape() {
  Json shape = Json::array();
  for (int i = 0; i < 65; ++i) shape.push_back(1);
  return shape;
}

TEST(NetworkJsonTest, RefusesHostileNetworks) {
  const char* body = "/nodes/1/attributes/body/graph";
  const std::string inner = body;
  const std::string inner_node_input = inner + "/nodes/0/inputs/0",
                    inner_inputs = inner + "/inputs", inner_outputs = inner + "/outputs";
  const Hostile cases[] = {
      {"input out of range", {{"/nodes/0/inputs/0", 6}}, {"node 'n' (LSTM)", "6"}},
      {"negative index", {{"/nodes/0/outputs/1", -1}}, {"node 'n' (LSTM)", "-1"}},
      {"index beyond 32 bits", {{"/outputs/0", int64_t{1} << 32}}, {"outputs"}},
      {"index beyond 63 bits", {{"/inputs/0", UINT64_MAX}}, {"integer"}},
      {"index is a fraction", {{"/inputs/0", 0.5}}, {"integer"}},
      {"null among the network's inputs", {{"/inputs/0", nullptr}}, {"inputs"}},
      {"input listed twice", {{"/inputs", {0, 0}}}, {"'x'", "twice"}},
      {"used before it is made", {{"/nodes/0/inputs/0", 5}}, {"'z'", "before"}},
      {"uses its own output", {{"/nodes/0/inputs/0", 3}}, {"'y'", "before"}},
      {"made twice", {{"/nodes/1/outputs/0", 3}}, {"loop", "'y'", "twice"}},
      {"makes a constant", {{"/nodes/0/outputs/1", 1}}, {"'w'", "twice"}},
      {"output nobody makes", {{"/inputs", Json::array()}, {"/nodes", Json::array()}}, {"'z'"}},
      {"node that makes nothing", {{"/nodes/0/outputs", {nullptr}}}, {"nothing"}},
      {"two values of a name", {{"/values/3/name", "x"}}, {"value 3", "'x'"}},
      {"value without a name", {{"/values/3/name", ""}}, {"value 3", "empty"}},
      {"two nodes of a name", {{"/nodes/1/name", "n"}}, {"node 1", "'n'"}},
      {"unknown type", {{"/values/0/type", "F8"}}, {"value 0", "F8"}},
      {"packed type of a value", {{"/values/0/type", "TILE_INT4"}}, {"value 0", "TILE_INT4"}},
      {"rank 65", {{"/values/0/shape", deep_shape()}}, {"65"}},
      {"negative dimension", {{"/values/0/shape/1", -3}}, {"-3"}},
      {"huge shape behind a zero",
       {{"/values/0/shape", {0, int64_t{1} << 40, int64_t{1} << 40}}},
       {"2^40"}},
      {"constant with a symbol", {{"/values/1/shape/0", "n"}}, {"'w'", "numbers"}},
      {"constant of another shape", {{"/values/1/shape/0", 3}}, {"'w'", "shape"}},
      {"constant of another type", {{"/values/1/type", "I32"}}, {"'w'", "type"}},
      {"constant that is not there", {{"/values/1/tensor", "missing"}}, {"missing"}},
      {"packing of nothing", {{"/values/1/packed", Json::object()}}, {"'w'", "'type' is missing"}},
      {"dense said to be packed",
       {{"/values/1/packed", {{"type", "TILE_INT8"}, {"group_size", 3}, {"symmetric", true}}}},
       {"not packed"}},
      {"packed integers", {{"/values/2/type", "I32"}}, {"'m'", "F32"}},
      {"packing that is no yes or no",
       {{"/values/2/packed/symmetric", 1}},
       {"'symmetric'", "boolean"}},
      {"metadata that is a number", {{"/metadata", {{"key", 1}}}}, {"'metadata'", "text"}},
      {"packed said to be dense", {{"/values/2/packed", nullptr}}, {"packed"}},
      {"packed in another way", {{"/values/2/packed/group_size", 64}}, {"another way"}},
      {"unknown kind of attribute", {{"/nodes/0/attributes/i", {{"bool", 1}}}}, {"'i'", "bool"}},
      {"attribute of several kinds",
       {{"/nodes/0/attributes/i", {{"int", 1}, {"float", 1}}}},
       {"'i'", "several"}},
      {"text in a list of integers", {{"/nodes/0/attributes/is/ints/1", "2"}}, {"'is'", "integer"}},
      {"packed attribute",
       {{"/nodes/0/attributes/t/tensor", "tiles"}, {"/nodes/0/attributes/t/shape", {20, 40}}},
       {"'t'", "packed"}},
      {"more captures than inputs", {{"/nodes/1/captures", 5}}, {"loop", "captured"}},
      {"captures of no subgraph", {{"/nodes/0/captures", 1}}, {"capture"}},
      {"loop without its inputs", {{"/nodes/1/inputs", {4, 0}}}, {"loop", "captured"}},
      {"loop without a body", {{"/nodes/1/attributes", Json::object()}}, {"'body'"}},
      {"absent carried value", {{"/nodes/1/inputs/2", nullptr}}, {"input 2", "absent"}},
      {"body of fewer inputs", {{inner_inputs.c_str(), {0, 1, 2}}}, {"'body'", "fit"}},
      {"body of fewer outputs", {{inner_outputs.c_str(), {1}}}, {"'body'", "fit"}},
      {"loop that makes more than its body", {{"/nodes/1/outputs", {5, nullptr}}}, {"fit"}},
      {"inside a subgraph", {{inner_node_input.c_str(), 5}}, {"loop", "'body'", "(Add)", "'d'"}},
      {"a network that is a list", {{body, Json::array()}}, {"'body'", "object"}},
      {"values that are an object", {{"/values", Json::object()}}, {"'values'", "list"}},
  };
  for (const Hostile& one : cases) {
    SCOPED_TRACE(one.name);
    Json json = corpus_json();
    for (const auto& [pointer, value] : one.changes) json[Json::json_pointer(pointer)] = value;
    std::vector<std::string> says = one.says;
    try {
      read(json);
      ADD_FAILURE() << "no error";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kCorrupt) << e.what();
      if (std::string_view(one.name) != "constant that is not there") says.push_back("'x.plk'");
      for (const std::string& part : says)
        EXPECT_NE(std::string_view(e.what()).find(part), std::string_view::npos)
            << "no '" << part << "' in: " << e.what();
    }
  }
}

// A subgraph in a subgraph, `levels` deep.
Json nested(int levels) {
  Json network = {{"values", {{{"name", "x"}}, {{"name", "y"}}}},
                  {"nodes", Json::array()},
                  {"inputs", {0}},
                  {"outputs", {0}}};
  if (levels > 0)
    network["nodes"].push_back({{"name", "n"},
                                {"op", "Op"},
                                {"inputs", {0}},
                                {"outputs", {1}},
                                {"attributes", {{"g", {{"graph", nested(levels - 1)}}}}}});
  return network;
}

TEST(NetworkJsonTest, BoundsNesting) {
  const Network network = read(base::parse_json(nested(kMaxNetworkNesting).dump(), "x.plk"));
  network_to_json(network);
  expect_error(ErrorCode::kCorrupt, {"'x.plk'", "nested"},
               [] { read(nested(kMaxNetworkNesting + 1)); });
  Network deeper;
  deeper.values = network.values;
  deeper.nodes = {{"n", "Op", "", {}, {0}, {}, 0}};
  deeper.nodes[0].attributes["g"] = std::make_shared<const Network>(network);
  expect_error(ErrorCode::kInvalidArgument, {"nested"}, [&] { network_to_json(deeper); });
}

TEST(NetworkJsonTest, CorpusIsReadOrRefused) {
  for (const auto& file : std::filesystem::directory_iterator(kCorpus)) {
    SCOPED_TRACE(file.path().string());
    EXPECT_NO_THROW(fuzz::run(fuzz::network, test::read_file(file.path())));
  }
}

TEST(NetworkJsonTest, AnyByteMayBeWrong) {
  const std::string text = corpus_json().dump();
  test::try_mutations(std::as_bytes(std::span(text)), text.size(), fuzz::network);
  test::expect_truncations_refused(std::as_bytes(std::span(text)), text.size(), fuzz::network);
}

}  // namespace
}  // namespace packlight::io
