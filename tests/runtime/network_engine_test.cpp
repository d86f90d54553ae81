#include <gtest/gtest.h>

#include "error_code.h"
#include "runtime/net.h"

namespace packlight::runtime {
namespace {

using test::counting;
using test::Elements;
using test::Floats;
using test::Net;
using test::result;

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
  const int32_t rows = net.node("Gather", {net.node("Shape", {x}), net.integers({0})});
  const int32_t target = net.node("Concat", {rows, net.integers({2, 2})});
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
  Floats in{codec::DType::kF32, {4}, {0, 3, 0, 4}};
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

// A loop's body that scans what it is given besides: declared to be of that shape.
std::shared_ptr<const io::Network> scanning(std::optional<std::vector<io::NetworkDim>> shape) {
  Net body;
  body.input("i", {}, codec::DType::kI64);
  const int32_t go_on = body.input("go_on", {}, codec::DType::kBool),
                x = body.input("x", {{-1, "n"}, {3, ""}});
  const int32_t y = body.node("Relu", {x});
  body.at(y).dtype = codec::DType::kF32;
  body.at(y).shape = std::move(shape);
  return body.graph({go_on, y});
}

TEST(NetworkEngineTest, ALoopThatNeverRunsScansNothing) {
  const auto run = [](std::optional<std::vector<io::NetworkDim>> shape) {
    Net net;
    const int32_t trips = net.input("trips", {}, codec::DType::kI64),
                  x = net.input("x", {{-1, "n"}, {3, ""}});
    const int32_t made =
        net.node("Loop", {trips, net.boolean(true), x}, {{"body", scanning(std::move(shape))}});
    net.last().captures = 1;
    Engine engine = net.finish(made);
    Elements<int64_t> none{codec::DType::kI64, {}, {0}};
    Floats in = counting({2, 3});
    engine.run(std::vector{none.view(), in.view()});
    EXPECT_EQ(engine.output(0).dtype, codec::DType::kF32);
    return engine.output(0).dims;
  };
  EXPECT_EQ(run({{{-1, "n"}, {3, ""}}}), (std::vector<int64_t>{0, 0, 3}));
  test::expect_error(ErrorCode::kUnsupported, {"Loop", "never ran"}, [&] { run(std::nullopt); });
}

// What a run made is gone once another fails.
TEST(NetworkEngineTest, OutputsAreGoneAfterAnError) {
  Net net;
  const int32_t x = net.input("x", {{-1, "n"}});
  Engine engine = net.finish(net.node("Reshape", {x, net.integers({2, 2})}));
  Floats four = counting({4}), three = counting({3});
  const auto expect_none = [&] {
    test::expect_error(ErrorCode::kInvalidArgument, {"[runtime] output 0", "no run"},
                       [&] { engine.output(0); });
  };
  expect_none();
  engine.run(std::vector{four.view()});
  EXPECT_EQ(engine.output(0).dims, (std::vector<int64_t>{2, 2}));
  test::expect_error(ErrorCode::kInvalidArgument, {"Reshape"},
                     [&] { engine.run(std::vector{three.view()}); });
  expect_none();
}

// Memory that an engine writes over when it runs again is none of its inputs and constants.
TEST(NetworkEngineTest, KnowsTheMemoryOfItsOutputs) {
  Net net;
  const int32_t x = net.input("x", {{-1, "n"}}), one = net.constant<float>({1}, {1});
  const int32_t shape = net.node("Shape", {x}), view = net.node("Flatten", {x});
  const int32_t kept = net.node("If", {net.boolean(true)}, [] {
    const auto branch = [] {
      Net inner;
      return inner.graph({inner.constant<float>({1}, {1})});
    };
    return decltype(io::NetworkNode::attributes){{"then_branch", branch()},
                                                 {"else_branch", branch()}};
  }());
  Engine engine = net.finish(std::vector{net.node("Relu", {x}), shape, kept, view, one});
  Floats in = counting({4});
  EXPECT_FALSE(engine.makes(in.view().data));
  engine.run(std::vector{in.view()});
  for (const size_t made : {0, 1, 2}) EXPECT_TRUE(engine.makes(engine.output(made).data)) << made;
  EXPECT_TRUE(engine.makes(engine.output(0).data + 15));
  EXPECT_FALSE(engine.makes(engine.output(0).data + 16));
  for (const size_t given : {3, 4}) EXPECT_FALSE(engine.makes(engine.output(given).data)) << given;
}

}  // namespace
}  // namespace packlight::runtime
