#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "codec/half.h"
#include "error_code.h"
#include "runtime/net.h"

// What ONNX's own cases (tests/deploy) do not ask of operators: packed weights, forms of other
// domains, outputs nobody wants, inputs that must be refused.
namespace packlight::runtime {
namespace {

using test::counting;
using test::Elements;
using test::Floats;
using test::Net;
using test::result;

using Attributes = decltype(io::NetworkNode::attributes);

Attributes ints(std::initializer_list<std::pair<std::string, int64_t>> values) {
  Attributes attributes;
  for (const auto& [name, value] : values) attributes[name] = value;
  return attributes;
}

// [20, 40] of symmetric INT4: code (r * 3 + c) % 16 - 8, the scale of a group of 32 by its row.
codec::EncodedTensor tiles() {
  codec::QuantizedMatrix matrix{20, 40, 4, 32, {}, {}, {}};
  for (int64_t r = 0; r < matrix.rows; ++r) {
    for (int64_t c = 0; c < matrix.cols; ++c)
      matrix.codes.push_back(static_cast<int8_t>((r * 3 + c) % 16 - 8));
    for (int g = 0; g < 2; ++g)
      matrix.scales.push_back(codec::f32_to_f16(static_cast<float>(r + 1) / 4));
  }
  return codec::pack(matrix);
}

float tile_value(int64_t r, int64_t c) {
  return static_cast<float>((r * 3 + c) % 16 - 8) * static_cast<float>(r + 1) / 4;
}

TEST(NetworkOperatorsTest, GatherTakesRowsOfAPackedWeight) {
  for (const std::vector<int64_t>& dims : {std::vector<int64_t>{20, 40}, {20, 4, 10}}) {
    Net net;
    const int32_t rows = net.input("rows", {{-1, "n"}}, codec::DType::kI64);
    Engine engine = net.finish(net.node("Gather", {net.packed(tiles(), dims), rows}));
    Elements<int64_t> chosen{codec::DType::kI64, {3}, {17, 0, -1}};
    engine.run(std::vector{chosen.view()});
    const std::vector<float> got = result(engine);
    ASSERT_EQ(got.size(), 120u);
    for (int64_t c = 0; c < 40; ++c) {
      EXPECT_EQ(got[c], tile_value(17, c));
      EXPECT_EQ(got[40 + c], tile_value(0, c));
      EXPECT_EQ(got[80 + c], tile_value(19, c));
    }
    chosen.values[1] = 20;
    test::expect_error(ErrorCode::kInvalidArgument, {"Gather", "index 20"},
                       [&] { engine.run(std::vector{chosen.view()}); });
  }
  Net net;
  const int32_t rows = net.input("rows", {{-1, "n"}}, codec::DType::kI64);
  Engine engine =
      net.finish(net.node("Gather", {net.packed(tiles(), {20, 40}), rows}, ints({{"axis", 1}})));
  Elements<int64_t> chosen{codec::DType::kI64, {1}, {0}};
  test::expect_error(ErrorCode::kInvalidArgument, {"axis 0, not 1"},
                     [&] { engine.run(std::vector{chosen.view()}); });
}

TEST(NetworkOperatorsTest, OnlySomeOperatorsTakeAPackedWeight) {
  const auto run = [](const char* op, std::vector<bool> wanted = {true}) {
    Net net;
    const int32_t x = net.input("x", {{1, ""}}), weight = net.packed(tiles(), {20, 40});
    const auto outputs = net.nodes(op, {weight}, wanted);
    Engine engine = net.finish(std::vector{net.node("Relu", {x}), outputs.back()});
    Floats in = counting({1});
    engine.run(std::vector{in.view()});
    return result<int64_t>(engine, 1);
  };
  for (const char* op : {"Relu", "DynamicQuantizeLinear", "NonZero", "Softmax", "MaxPool"}) {
    test::expect_error(ErrorCode::kInvalidArgument, {op, "packed weight"}, [&] { run(op); });
  }
  EXPECT_EQ(run("Shape"), (std::vector<int64_t>{20, 40}));
  // Nothing has the bytes that a caller would read.
  test::expect_error(ErrorCode::kUnsupported, {"output", "packed weight"},
                     [&] { run("Identity"); });
}

// Another shape, known only when it runs, of a packed weight.
TEST(NetworkOperatorsTest, PackedWeightsAreReshaped) {
  Net net;
  const int32_t x = net.input("x", {{1, ""}, {40, ""}}),
                target = net.input("target", {{2, ""}}, codec::DType::kI64);
  Engine engine = net.finish(
      net.node("MatMul", {x, net.node("Reshape", {net.packed(tiles(), {20, 40}), target})}));
  Floats in = counting({1, 40});
  Elements<int64_t> dims{codec::DType::kI64, {2}, {40, 20}};
  for (int repeat = 0; repeat < 2; ++repeat) {
    engine.run(std::vector{in.view(), dims.view()});
    for (int64_t j = 0; j < 20; ++j) {
      float want = 0;
      for (int64_t i = 0; i < 40; ++i)
        want += in.values[i] * tile_value((i * 20 + j) / 40, (i * 20 + j) % 40);
      EXPECT_EQ(result(engine)[j], want);  // quarters and small integers: exact
    }
  }
}

TEST(NetworkOperatorsTest, NoSubgraphMakesOrCarriesAPackedWeight) {
  const auto branch = [] {
    Net net;
    return net.graph({net.packed(tiles(), {20, 40})});
  };
  Net choice;
  const int32_t chosen = choice.node("If", {choice.boolean(true)},
                                     {{"then_branch", branch()}, {"else_branch", branch()}});
  Engine chooses = choice.finish(choice.node("Identity", {chosen}));
  test::expect_error(ErrorCode::kUnsupported, {"packed weight"}, [&] { chooses.run({}); });

  Net body;
  body.input("i", {}, codec::DType::kI64);
  const int32_t go_on = body.input("go_on", {}, codec::DType::kBool),
                carried = body.input("w", {{20, ""}, {40, ""}});
  Net loop;
  Engine loops = loop.finish(
      loop.node("Loop", {loop.integers({2}), loop.boolean(true), loop.packed(tiles(), {20, 40})},
                {{"body", body.graph({go_on, carried})}}));
  test::expect_error(ErrorCode::kUnsupported, {"Loop", "packed weight"}, [&] { loops.run({}); });
}

TEST(NetworkOperatorsTest, ConditionsAreOneBoolean) {
  const auto branch = [] {
    Net net;
    return net.graph({net.constant<float>({1}, {1})});
  };
  Net net;
  const int32_t x = net.input("x", {{-1, "n"}});
  Engine engine =
      net.finish(net.node("If", {x}, {{"then_branch", branch()}, {"else_branch", branch()}}));
  for (const int64_t n : {0, 1, 2}) {
    Floats in = counting({n});
    test::expect_error(ErrorCode::kInvalidArgument, {"If", "F32, not one BOOL"},
                       [&] { engine.run(std::vector{in.view()}); });
  }
}

// com.microsoft's: [n, blocks, bytes] codes, the low half of a byte first, the last block padded.
TEST(NetworkOperatorsTest, MatMulNBits) {
  constexpr int64_t kK = 20, kN = 2;  // blocks of 16: the last one of 4
  const auto run = [&](int64_t bits, bool zeros, bool bias) {
    Net net;
    const int64_t bytes = 16 * bits / 8;
    std::vector<uint8_t> codes(kN * 2 * bytes, 0xEE);  // padding: nobody's
    for (int64_t n = 0; n < kN; ++n) {
      for (int64_t k = 0; k < kK; ++k) {
        const auto code = static_cast<uint8_t>((n + k) % 16);
        uint8_t& at = codes[n * 2 * bytes + k * bits / 8];
        at = bits == 8    ? code
             : k % 2 == 0 ? static_cast<uint8_t>((at & 0xF0) | code)
                          : static_cast<uint8_t>((at & 0x0F) | code << 4);
      }
    }
    std::vector<int32_t> inputs{net.input("a", {{-1, "m"}, {kK, ""}}),
                                net.constant<uint8_t>(codes, {kN, 2, bytes}),
                                net.constant<float>({1, 2, 0.5f, 4}, {kN * 2})};
    inputs.push_back(!zeros      ? io::kNoValue
                     : bits == 8 ? net.constant<uint8_t>({1, 2, 3, 4}, {4})
                                 : net.constant<uint8_t>({0x21, 0x43}, {2}));
    inputs.push_back(io::kNoValue);
    if (bias) inputs.push_back(net.constant<float>({100, 200}, {2}));
    Engine engine = net.finish(net.node(
        "MatMulNBits", inputs, ints({{"K", kK}, {"N", kN}, {"bits", bits}, {"block_size", 16}}),
        "com.microsoft"));
    Floats a = counting({5, kK});
    engine.run(std::vector{a.view()});
    const float scales[kN][2] = {{1, 2}, {0.5f, 4}}, given[kN][2] = {{1, 2}, {3, 4}};
    for (int64_t m = 0; m < 5; ++m) {
      for (int64_t n = 0; n < kN; ++n) {
        double want = bias ? 100.0 * static_cast<double>(n + 1) : 0;
        for (int64_t k = 0; k < kK; ++k) {
          const float zero = zeros ? given[n][k / 16] : bits == 8 ? 128.f : 8.f;
          want +=
              a.values[m * kK + k] * (static_cast<float>((n + k) % 16) - zero) * scales[n][k / 16];
        }
        EXPECT_EQ(result(engine)[m * kN + n], want) << bits << " bits, row " << m;
      }
    }
  };
  for (const int64_t bits : {4, 8}) {
    for (const bool zeros : {false, true}) run(bits, zeros, zeros);
  }
}

TEST(NetworkOperatorsTest, GroupNormalizationScalesByGroup) {
  Net net;
  const int32_t x = net.input("x", {{1, ""}, {4, ""}, {2, ""}});
  Engine engine =
      net.finish(net.node("GroupNormalization",
                          {x, net.constant<float>({2, 3}, {2}), net.constant<float>({10, 20}, {2})},
                          ints({{"num_groups", 2}, {"scale_by_group", 1}})));
  Floats in{codec::DType::kF32, {1, 4, 2}, {-1, 1, -1, 1, 2, 4, 2, 4}};
  engine.run(std::vector{in.view()});
  const std::vector<float> got = result(engine);
  for (int i = 0; i < 8; ++i) {  // both groups have the variance 1; epsilon takes 5e-6 of it
    const float sign = i % 2 == 0 ? -1.f : 1.f;
    EXPECT_NEAR(got[i], i < 4 ? 10 + 2 * sign : 20 + 3 * sign, 3e-5f) << i;
  }
}

// An output that nobody wants has no memory; what is wanted is the same without it.
TEST(NetworkOperatorsTest, AnyOutputsMayBeUnwanted) {
  struct Case {
    const char* op;
    std::vector<int64_t> x;
    size_t outputs;
    Attributes attributes;
    std::function<std::vector<int32_t>(Net&)> more;  // inputs after x
  };
  const auto none = [](Net&) { return std::vector<int32_t>{}; };
  const auto floats = [](Net& net, int64_t n) { return net.constant(counting({n}).values, {n}); };
  const auto recurrent = [](int64_t gates) {
    return [gates](Net& net) {
      return std::vector<int32_t>{
          net.constant(std::vector<float>(gates * 2 * 3, 0.1f), {1, gates * 2, 3}),
          net.constant(std::vector<float>(gates * 2 * 2, 0.2f), {1, gates * 2, 2})};
    };
  };
  Attributes pool, heads = ints({{"q_num_heads", 2}, {"kv_num_heads", 2}}),
                   training = ints({{"training_mode", 1}});
  pool["kernel_shape"] = std::vector<int64_t>{2, 2};
  const Case cases[] = {
      {"MaxPool", {1, 2, 3, 3}, 2, pool, none},
      {"TopK", {2, 5}, 2, {}, [](Net& net) { return std::vector{net.integers({3})}; }},
      {"LSTM", {4, 2, 3}, 3, {}, recurrent(4)},
      {"GRU", {4, 2, 3}, 2, {}, recurrent(3)},
      {"RNN", {4, 2, 3}, 2, {}, recurrent(1)},
      {"Dropout", {3, 2}, 2, {}, none},
      {"DynamicQuantizeLinear", {3, 2}, 3, {}, none},
      {"LayerNormalization", {3, 4}, 3, {}, [&](Net& net) { return std::vector{floats(net, 4)}; }},
      {"BatchNormalization",
       {2, 2, 3},
       3,
       training,
       [&](Net& net) {
         return std::vector{floats(net, 2), floats(net, 2), floats(net, 2), floats(net, 2)};
       }},
      {"Split",
       {4, 3},
       3,
       {},
       [](Net& net) {
         return std::vector{net.integers({1, 0, 3})};
       }},
      {"Attention",
       {1, 3, 4},
       4,
       heads,
       [](Net&) {
         return std::vector<int32_t>{0, 0};
       }},  // the query is key and value, too
  };
  for (const Case& one : cases) {
    std::vector<std::vector<std::byte>> all;
    for (size_t choice = 0; choice < size_t{1} << one.outputs; ++choice) {
      // The first time all; each choice of those that are not wanted after that.
      std::vector<bool> wanted(one.outputs);
      for (size_t i = 0; i < one.outputs; ++i) wanted[i] = (choice >> i & 1) == 0;
      if (std::find(wanted.begin(), wanted.end(), true) == wanted.end()) continue;
      Net net;
      std::vector<io::NetworkDim> shape;
      for (const int64_t dim : one.x) shape.push_back({dim, ""});
      std::vector<int32_t> inputs{net.input("x", shape)};
      for (const int32_t input : one.more(net)) inputs.push_back(input);
      std::vector<int32_t> made;
      for (const int32_t id : net.nodes(one.op, inputs, wanted, one.attributes))
        if (id != io::kNoValue) made.push_back(id);
      Engine engine = net.finish(made, 2);
      Floats in = counting(one.x);
      engine.run(std::vector{in.view()});
      for (size_t i = 0, k = 0; i < one.outputs; ++i) {
        if (choice == 0 || wanted[i]) {
          const Tensor& out = engine.output(k++);
          const std::vector<std::byte> bytes(out.data, out.data + out.bytes());
          if (choice == 0)
            all.push_back(bytes);
          else
            EXPECT_EQ(bytes, all[i]) << one.op << " output " << i << " of choice " << choice;
        }
      }
    }
  }
}

TEST(NetworkOperatorsTest, AnOutputMustBeOneThatTheOperatorMakes) {
  for (const char* op : {"Relu", "Identity"}) {
    Net net;
    const auto made = net.nodes(op, {net.input("x", {{2, ""}})}, {true, true});
    Engine engine = net.finish(made);
    Floats in = counting({2});
    test::expect_error(ErrorCode::kInvalidArgument, {op, "output 1"},
                       [&] { engine.run(std::vector{in.view()}); });
  }
}

// Runs an operator on one input x; constants after it.
void run_on(const char* op, Elements<int64_t> x, std::vector<std::vector<int64_t>> more,
            Attributes attributes = {}) {
  Net net;
  std::vector<io::NetworkDim> shape;
  for (const int64_t dim : x.dims) shape.push_back({dim, ""});
  std::vector<int32_t> inputs{net.input("x", shape, codec::DType::kI64)};
  for (std::vector<int64_t>& values : more) inputs.push_back(net.integers(std::move(values)));
  net.finish(net.node(op, inputs, std::move(attributes))).run(std::vector{x.view()});
}

TEST(NetworkOperatorsTest, RefusesWhatHasNoResult) {
  const Elements<int64_t> x{codec::DType::kI64, {2, 2}, {1, 2, 3, 4}},
      empty{codec::DType::kI64, {2, 0}, {}};
  const auto refused = [&](const std::string& part, const auto&... arguments) {
    test::expect_error(ErrorCode::kInvalidArgument, {"[runtime] node", part},
                       [&] { run_on(arguments...); });
  };
  using Lists = std::vector<std::vector<int64_t>>;
  refused("an integer is divided by zero", "Div", x, Lists{{1, 0}});
  refused("an integer is divided by zero", "Mod", x, Lists{{0, 1}});
  refused("an integer is divided by zero", "Mod", x, Lists{{0, 1}}, ints({{"fmod", 1}}));
  refused("axis -3", "ArgMax", x, Lists{}, ints({{"axis", -3}}));
  refused("axis 2", "Concat", x, Lists{{1, 0}}, ints({{"axis", 2}}));
  refused("axis -3", "Gather", x, Lists{{0}}, ints({{"axis", -3}}));
  refused("axis 7", "ReduceSum", x, Lists{{7}});
  refused("axis 2", "CumSum", x, Lists{{2}});
  refused("is empty", "ArgMax", empty, Lists{}, ints({{"axis", 1}}));
  refused("input 0 is I64, not F32", "Softmax", x, Lists{});
}

// A dimension of zero hides no others, and integers wrap instead of overflowing.
TEST(NetworkOperatorsTest, SizesAreBounded) {
  Net net;
  const int32_t shape = net.integers({0, int64_t{1} << 40, 4});
  Engine engine = net.finish(net.node("ConstantOfShape", {shape}));
  test::expect_error(ErrorCode::kInvalidArgument, {"ConstantOfShape", "too many elements"},
                     [&] { engine.run({}); });

  Net sum;
  const int32_t data = sum.integers({INT64_MAX}), places = sum.integers({0});
  Attributes add;
  add["reduction"] = std::string("add");
  Engine wraps = sum.finish(sum.node("ScatterElements", {data, places, sum.integers({1})}, add));
  wraps.run({});
  EXPECT_EQ(result<int64_t>(wraps)[0], INT64_MIN);
}

// Sums of depthwise products wrap, as all sums of integers do.
TEST(NetworkOperatorsTest, DepthwiseSumsWrap) {
  constexpr int64_t kTaps = 40000;
  Net net;
  const std::vector<uint8_t> most(2 * kTaps, 255);
  const int32_t x = net.constant(most, {1, 2, 1, kTaps}), w = net.constant(most, {2, 1, 1, kTaps});
  Engine engine = net.finish(net.node("ConvInteger", {x, w}, ints({{"group", 2}})));
  engine.run({});
  const auto want = static_cast<int32_t>(static_cast<uint32_t>(kTaps * 255 * 255));
  EXPECT_EQ(result<int32_t>(engine), (std::vector<int32_t>{want, want}));
}

// A window of more elements than 64 bits count.
TEST(NetworkOperatorsTest, AveragesOverHugeWindows) {
  constexpr int64_t kSide = int64_t{1} << 21;
  Net net;
  const int32_t x = net.input("x", {{1, ""}, {1, ""}, {1, ""}, {1, ""}, {1, ""}});
  Attributes attributes = ints({{"count_include_pad", 1}});
  attributes["kernel_shape"] = std::vector<int64_t>(3, kSide);
  attributes["pads"] = std::vector<int64_t>{kSide - 1, kSide - 1, kSide - 1, 0, 0, 0};
  Engine engine = net.finish(net.node("AveragePool", {x}, attributes));
  Floats in = counting({1, 1, 1, 1, 1});
  engine.run(std::vector{in.view()});
  EXPECT_EQ(result(engine)[0], 0x1p-63f);
}

template <class T, class E>
T power(T base, E exponent) {
  Net net;
  const int32_t x = net.constant<T>({base}, {1}), y = net.constant<E>({exponent}, {1});
  Engine engine = net.finish(net.node("Pow", {x, y}));
  engine.run({});
  return result<T>(engine)[0];
}

// Only the result has the type of the base.
TEST(NetworkOperatorsTest, ExponentsKeepTheirType) {
  EXPECT_EQ((power<uint8_t, int32_t>(3, -1)), 0);
  EXPECT_EQ((power<int32_t, int64_t>(2, (int64_t{1} << 32) + 1)), 0);
  EXPECT_EQ((power<int64_t, int32_t>(-3, 3)), -27);
  EXPECT_EQ((power<int32_t, uint8_t>(2, 200)), 0);
  EXPECT_EQ((power<float, int64_t>(-1, 16777217)), -1);
  EXPECT_EQ((power<float, int32_t>(1.5f, 2)), 2.25f);
}

// More than a process can address: an error each time, and no plan without memory behind it.
TEST(NetworkEngineTest, MemoryThatIsNotThere) {
  Net net;
  const int32_t x = net.input("x", {{1, ""}}), shape = net.integers({int64_t{1} << 40});
  std::vector<int32_t> outputs;
  for (int i = 0; i < 40; ++i) outputs.push_back(net.node("Expand", {x, shape}));
  Engine engine = net.finish(outputs);
  Floats in = counting({1});
  for (int repeat = 0; repeat < 2; ++repeat) {
    test::expect_error(ErrorCode::kOutOfMemory, {"bytes for inputs of these shapes"},
                       [&] { engine.run(std::vector{in.view()}); });
  }
}

TEST(NetworkEngineTest, InputsHaveSizesAndData) {
  Net net;
  net.input("x", {{-1, ""}});
  Engine engine = net.finish(0);
  Floats in = counting({2});
  Tensor view = in.view();
  view.dims = {-2};
  test::expect_error(ErrorCode::kInvalidArgument, {"'x'", "negative"},
                     [&] { engine.run(std::vector{view}); });
  view.dims = {2};
  view.data = nullptr;
  test::expect_error(ErrorCode::kInvalidArgument, {"'x'", "no data"},
                     [&] { engine.run(std::vector{view}); });
}

}  // namespace
}  // namespace packlight::runtime
