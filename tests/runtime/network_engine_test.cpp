#include <gtest/gtest.h>

#include <numeric>

#include "error_code.h"
#include "runtime/network/engine.h"

namespace packlight::runtime {
namespace {

using codec::DType;

// A network that is built value by value.
class Net {
 public:
  int32_t input(const std::string& name, std::vector<io::NetworkDim> shape) {
    const int32_t id = value(name);
    network_->values[id].dtype = DType::kF32;
    network_->values[id].shape = std::move(shape);
    network_->inputs.push_back(id);
    return id;
  }
  int32_t integers(const std::string& name, std::vector<int64_t> numbers) {
    auto owner = std::make_shared<const std::vector<int64_t>>(std::move(numbers));
    io::NetworkConstant constant;
    constant.record = {name,
                       DType::kI64,
                       {static_cast<int64_t>(owner->size())},
                       std::as_bytes(std::span(*owner)),
                       owner};
    const int32_t id = value(name);
    network_->values[id].constant = std::move(constant);
    return id;
  }
  int32_t node(const std::string& op, std::vector<int32_t> inputs) {
    io::NetworkNode node;
    node.name = op + std::to_string(network_->nodes.size());
    node.op = op;
    node.inputs = std::move(inputs);
    const int32_t out = value(node.name);
    node.outputs = {out};
    network_->nodes.push_back(std::move(node));
    return out;
  }
  Engine finish(int32_t output, int threads = 1) {
    network_->outputs = {output};
    return Engine(network_, std::make_shared<base::ThreadPool>(threads));
  }

 private:
  int32_t value(const std::string& name) {
    network_->values.push_back({name, std::nullopt, std::nullopt, std::nullopt});
    return static_cast<int32_t>(network_->values.size()) - 1;
  }
  std::shared_ptr<io::Network> network_ = std::make_shared<io::Network>();
};

struct Floats {
  std::vector<int64_t> dims;
  std::vector<float> values;
  Tensor view() {
    return {DType::kF32, dims, reinterpret_cast<std::byte*>(values.data()), nullptr};
  }
};

Floats counting(std::vector<int64_t> dims) {
  const int64_t n = std::accumulate(dims.begin(), dims.end(), int64_t{1}, std::multiplies<>());
  Floats f{std::move(dims), std::vector<float>(n)};
  std::iota(f.values.begin(), f.values.end(), 1.f);
  return f;
}

std::vector<float> result(const Engine& engine) {
  const Tensor& out = engine.output(0);
  return {out.as<float>(), out.as<float>() + out.elements()};
}

// x -> Relu -> Relu -> ... : each may write over the one before.
TEST(NetworkEngineTest, AChainTakesOneBuffer) {
  Net net;
  int32_t x = net.input("x", {{-1, "n"}});
  for (int i = 0; i < 5; ++i) x = net.node("Relu", {x});
  Engine engine = net.finish(x);
  Floats in = counting({100});
  in.values[3] = -7;
  engine.run(std::vector{in.view()});
  EXPECT_EQ(engine.arena_bytes(), 448u);  // 100 floats in whole lines of 64 bytes
  EXPECT_EQ(result(engine)[3], 0);
  EXPECT_EQ(in.values[3], -7);  // an input is nobody's to write to
  EXPECT_EQ(result(engine)[99], 100);
}

TEST(NetworkEngineTest, AValueStaysWhileItIsNeeded) {
  Net net;
  const int32_t x = net.input("x", {{-1, "n"}});
  const int32_t a = net.node("Relu", {x}), b = net.node("Add", {a, a});
  const int32_t c = net.node("Add", {b, b}), d = net.node("Add", {c, a});  // a lives beside b and c
  Engine engine = net.finish(d);
  Floats in = counting({3});
  engine.run(std::vector{in.view()});
  EXPECT_EQ(result(engine), (std::vector<float>{5, 10, 15}));
}

// Shape -> Gather -> Concat -> Reshape is settled while planning: nothing is left to the heap.
TEST(NetworkEngineTest, ShapeArithmeticIsDoneWhilePlanning) {
  Net net;
  const int32_t x = net.input("x", {{-1, "n"}, {4, ""}});
  const int32_t rows = net.node("Gather", {net.node("Shape", {x}), net.integers("zero", {0})});
  const int32_t target = net.node("Concat", {rows, net.integers("halves", {2, 2})});
  Engine engine = net.finish(net.node("Relu", {net.node("Reshape", {x, target})}));
  for (const int64_t n : {2, 5, 2}) {  // another size plans anew
    Floats in = counting({n, 4});
    engine.run(std::vector{in.view()});
    EXPECT_EQ(engine.output(0).dims, (std::vector<int64_t>{n, 2, 2}));
    EXPECT_EQ(engine.arena_bytes(), static_cast<uint64_t>((n * 16 + 63) / 64 * 64));
    EXPECT_EQ(result(engine), in.values);
  }
}

TEST(NetworkEngineTest, ContentsMayDecideAShape) {
  Net net;
  const int32_t x = net.input("x", {{-1, "n"}});
  Engine engine = net.finish(net.node("NonZero", {x}));
  Floats in{{4}, {0, 3, 0, 4}};
  engine.run(std::vector{in.view()});
  EXPECT_EQ(engine.output(0).dims, (std::vector<int64_t>{1, 2}));
  in.values = {1, 1, 1, 0};  // the same shapes, other contents
  engine.run(std::vector{in.view()});
  ASSERT_EQ(engine.output(0).dims, (std::vector<int64_t>{1, 3}));
  EXPECT_EQ(engine.output(0).as<int64_t>()[2], 2);
}

TEST(NetworkEngineTest, RefusesWhatDoesNotFit) {
  Net net;
  const int32_t x = net.input("x", {{-1, "n"}, {-1, "n"}}), y = net.input("y", {{2, ""}});
  Engine engine = net.finish(net.node("Add", {x, y}));
  Floats square = counting({2, 2}), oblong = counting({2, 3}), two = counting({2}),
         three = counting({3});
  test::expect_error(ErrorCode::kInvalidArgument, {"input 'x' has shape [2, 3]"}, [&] {
    engine.run(std::vector{oblong.view(), two.view()});
  });
  test::expect_error(ErrorCode::kInvalidArgument, {"input 'y' has shape [3]"}, [&] {
    engine.run(std::vector{square.view(), three.view()});
  });
  test::expect_error(ErrorCode::kInvalidArgument, {"takes 2 inputs, not 1"},
                     [&] { engine.run(std::vector{square.view()}); });
  engine.run(std::vector{square.view(), two.view()});
  EXPECT_EQ(result(engine), (std::vector<float>{2, 4, 4, 6}));
  Net unknown;
  const int32_t z = unknown.input("z", {});
  const int32_t odd = unknown.node("Frobnicate", {z});
  test::expect_error(ErrorCode::kUnsupported, {"Frobnicate"}, [&] { unknown.finish(odd); });
}

}  // namespace
}  // namespace packlight::runtime
