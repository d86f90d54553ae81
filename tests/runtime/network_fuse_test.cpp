#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

#include "error_code.h"
#include "runtime/net.h"
#include "runtime/network/fused_activation.h"

namespace packlight::runtime {
namespace {

using test::Floats;
using test::Net;
using test::result;
using Dims = std::vector<int64_t>;
using Attributes = decltype(io::NetworkNode::attributes);

int64_t size_of(const Dims& dims) {
  return std::accumulate(dims.begin(), dims.end(), int64_t{1}, std::multiplies<>());
}

std::vector<std::string> operators_of(const Engine& engine) {
  std::vector<std::string> ops;
  for (const io::NetworkNode& node : engine.network().nodes) ops.push_back(node.op);
  return ops;
}

Floats random_input(Dims dims, unsigned seed) {
  std::mt19937 rng(seed);
  Floats x{codec::DType::kF32, dims, std::vector<float>(size_of(dims))};
  for (float& v : x.values) v = static_cast<float>(rng() % 2001) / 500 - 2;
  return x;
}

template <class T>
std::vector<T> random_values(int64_t count, unsigned seed) {
  std::mt19937 rng(seed);
  std::vector<T> values(count);
  for (T& v : values) {
    if constexpr (std::is_same_v<T, float>)
      v = static_cast<float>(rng() % 2001) / 1000 - 1;
    else
      v = static_cast<T>(rng() % 255 - 127);
  }
  return values;
}

std::vector<io::NetworkDim> any_shape(size_t rank) { return std::vector<io::NetworkDim>(rank); }

void expect_near(const std::vector<float>& got, const std::vector<float>& want, double bound) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_TRUE(std::abs(double{got[i]} - want[i]) <= bound)
        << "index " << i << ": got " << got[i] << ", want " << want[i] << ", bound " << bound;
}

struct ConvCase {
  Dims x, weight;
  Dims strides = {1, 1}, dilations = {1, 1}, pads = {0, 0, 0, 0};
  int64_t group = 1;
  const char* after = "";

  Attributes attributes() const {
    return {{"strides", strides}, {"dilations", dilations}, {"pads", pads}, {"group", group}};
  }
  int64_t terms() const { return size_of(weight) / std::max<int64_t>(1, weight[0]); }
};

// Every way that a window moves: strides with more and fewer phases than taps, dilations, padding
// wider than the image, channels that fill no quad, images of one row, several images and groups.
const std::vector<ConvCase> kConvs = {
    {{1, 3, 7, 9}, {5, 3, 1, 1}, {1, 1}, {1, 1}, {0, 0, 0, 0}, 1, "Relu"},
    {{2, 8, 40, 31}, {16, 8, 1, 1}, {1, 1}, {1, 1}, {0, 0, 0, 0}, 1, "HardSwish"},
    {{1, 3, 7, 9}, {5, 3, 1, 1}, {2, 3}},
    {{2, 5, 11, 13}, {9, 5, 3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1, "HardSwish"},
    {{1, 16, 40, 50}, {24, 16, 3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}},
    {{1, 6, 12, 15}, {8, 6, 3, 3}, {2, 2}, {1, 1}, {1, 1, 0, 0}},
    {{1, 4, 12, 15}, {8, 4, 5, 2}, {3, 2}, {1, 1}, {2, 0, 2, 1}},
    {{1, 4, 12, 15}, {8, 4, 3, 3}, {1, 1}, {2, 3}, {2, 3, 2, 3}},
    {{1, 4, 12, 15}, {8, 4, 3, 3}, {2, 3}, {3, 2}, {4, 4, 4, 4}},
    {{1, 2, 2, 2}, {3, 2, 5, 5}, {1, 1}, {1, 1}, {4, 4, 4, 4}},
    {{1, 7, 1, 33}, {8, 7, 1, 5}, {1, 1}, {1, 1}, {0, 2, 0, 2}},
    {{1, 7, 33, 1}, {8, 7, 3, 1}, {2, 1}, {1, 1}, {1, 0, 1, 0}},
    {{2, 6, 9, 8}, {6, 1, 3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 6},
    {{1, 6, 9, 8}, {12, 1, 5, 5}, {2, 2}, {1, 1}, {2, 2, 2, 2}, 6, "HardSwish"},
    {{1, 6, 9, 8}, {9, 2, 3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 3, "Relu"},
    {{1, 20, 1, 1}, {30, 20, 1, 1}, {1, 1}, {1, 1}, {0, 0, 0, 0}, 1, "Relu"},
    {{1, 3, 6, 6}, {4, 3, 6, 6}},
    {{1, 2, 5, 5}, {2, 2, 2, 2}, {1, 1}, {1 << 20, 1 << 20}, {1 << 20, 1 << 20, 0, 0}},
};

// By its definition, in double.
std::vector<float> convolved(const ConvCase& c, const std::vector<float>& x,
                             const std::vector<float>& w, const std::vector<float>& bias) {
  const int64_t channels = c.x[1], maps = c.weight[0], per_group = c.weight[1];
  const auto stops = [&](size_t axis) {
    return (c.x[2 + axis] + c.pads[axis] + c.pads[2 + axis] -
            ((c.weight[2 + axis] - 1) * c.dilations[axis] + 1)) /
               c.strides[axis] +
           1;
  };
  std::vector<float> y;
  for (int64_t image = 0; image < c.x[0]; ++image) {
    for (int64_t map = 0; map < maps; ++map) {
      for (int64_t row = 0; row < stops(0); ++row) {
        for (int64_t column = 0; column < stops(1); ++column) {
          double sum = bias[map];
          for (int64_t k = 0; k < per_group; ++k) {
            const int64_t channel = map / (maps / c.group) * per_group + k;
            for (int64_t i = 0; i < c.weight[2]; ++i) {
              for (int64_t j = 0; j < c.weight[3]; ++j) {
                const int64_t h = row * c.strides[0] + i * c.dilations[0] - c.pads[0],
                              v = column * c.strides[1] + j * c.dilations[1] - c.pads[1];
                if (h < 0 || h >= c.x[2] || v < 0 || v >= c.x[3]) continue;
                sum += static_cast<double>(
                           x[((image * channels + channel) * c.x[2] + h) * c.x[3] + v]) *
                       w[((map * per_group + k) * c.weight[2] + i) * c.weight[3] + j];
              }
            }
          }
          const std::string after = c.after;
          if (after == "Relu") sum = std::max(sum, 0.0);
          if (after == "HardSwish") sum *= std::clamp(sum + 3, 0.0, 6.0) / 6;
          y.push_back(static_cast<float>(sum));
        }
      }
    }
  }
  return y;
}

TEST(NetworkFuseTest, ConvolutionsOfFloatsAreTheirDefinition) {
  for (size_t i = 0; i < kConvs.size(); ++i) {
    const ConvCase& c = kConvs[i];
    const auto weights = random_values<float>(size_of(c.weight), 1),
               bias = random_values<float>(c.weight[0], 2);
    for (const int threads : {1, 3}) {
      Net net;
      const int32_t x = net.input("x", any_shape(4));
      int32_t y =
          net.node("Conv", {x, net.constant(weights, c.weight), net.constant(bias, {c.weight[0]})},
                   c.attributes());
      if (*c.after != '\0') y = net.node(c.after, {y});
      Engine engine = net.finish(y, threads);
      EXPECT_EQ(operators_of(engine), std::vector<std::string>{"Conv"});
      Floats in = random_input(c.x, 3);
      engine.run(std::vector{in.view()});
      // |x| <= 2, |w| <= 1; an activation's slope is at most 1.5.
      const double bound =
          4.0 * static_cast<double>(c.terms() + 2) * 0x1p-24 * 2 * static_cast<double>(c.terms());
      SCOPED_TRACE("case " + std::to_string(i));
      ASSERT_NO_FATAL_FAILURE(
          expect_near(result(engine), convolved(c, in.values, weights, bias), bound));
    }
  }
}

// x -> Quantize -> Dequantize -> layer, whose weight is codes behind a Dequantize. Where the scale
// is an input of the network it may change, and nothing can be fused.
struct Quantized {
  Net net;
  int32_t x, scale, rounded, weight;

  template <class Zero>
  Quantized(bool fusable, size_t rank, Zero zero_point, const std::vector<int8_t>& codes,
            const Dims& dims, const std::vector<float>& scales, int64_t axis,
            const std::function<int32_t(Net&, int32_t)>& before = nullptr) {
    x = net.input("x", any_shape(rank));
    if (before) x = before(net, x);
    scale = fusable ? net.constant<float>({kScale}, {}) : net.input("scale", {});
    const int32_t zero = net.constant<Zero>({zero_point}, {});
    rounded =
        net.node("DequantizeLinear", {net.node("QuantizeLinear", {x, scale, zero}), scale, zero});
    const Dims along = scales.size() == 1 ? Dims{} : Dims{static_cast<int64_t>(scales.size())};
    weight = net.node("DequantizeLinear", {net.constant(codes, dims), net.constant(scales, along)},
                      {{"axis", axis}});
  }
  std::vector<float> run(Engine& engine, Floats in) {
    Floats scale_value{codec::DType::kF32, {}, {kScale}};
    std::vector<Tensor> inputs{in.view()};
    if (engine.network().inputs.size() == 2) inputs.push_back(scale_value.view());
    engine.run(inputs);
    return result(engine);
  }
  static constexpr float kScale = 0.017f;
};

template <class Zero>
void expect_codes_as_floats(const ConvCase& c, Zero zero, int threads) {
  const auto codes = random_values<int8_t>(size_of(c.weight), 4);
  std::vector<float> scales = random_values<float>(c.weight[0], 5);
  for (float& s : scales) s = std::abs(s) / 100 + 1e-4f;
  const auto bias = random_values<float>(c.weight[0], 6);
  std::vector<float> outputs[2];
  for (const bool fused : {false, true}) {
    Quantized q(fused, 4, zero, codes, c.weight, scales, 0);
    int32_t y = q.net.node("Conv", {q.rounded, q.weight, q.net.constant(bias, {c.weight[0]})},
                           c.attributes());
    if (*c.after != '\0') y = q.net.node(c.after, {y});
    Engine engine = q.net.finish(y, threads);
    const auto ops = operators_of(engine);
    ASSERT_EQ(ops == std::vector<std::string>{"Int8Conv"}, fused) << ops.size() << " nodes";
    outputs[fused] = q.run(engine, random_input(c.x, 7));
  }
  // |x| <= 2, |w| <= 127 * 0.0101
  const double bound =
      4.0 * static_cast<double>(c.terms() + 2) * 0x1p-24 * 2.6 * static_cast<double>(c.terms());
  ASSERT_NO_FATAL_FAILURE(expect_near(outputs[1], outputs[0], bound));
}

TEST(NetworkFuseTest, ConvolutionsOfCodesAreThoseOfTheFloatsTheyStandFor) {
  int fused = 0;
  for (size_t i = 0; i < kConvs.size(); ++i) {
    const ConvCase& c = kConvs[i];
    if (c.group != 1 || c.dilations[0] > 64) continue;
    SCOPED_TRACE("case " + std::to_string(i));
    ASSERT_NO_FATAL_FAILURE(expect_codes_as_floats<uint8_t>(c, 131, 1));
    ASSERT_NO_FATAL_FAILURE(expect_codes_as_floats<int8_t>(c, 0, 3));
    ++fused;
  }
  EXPECT_EQ(fused, 14);
}

TEST(NetworkFuseTest, MatrixProductsOfCodesAreThoseOfTheFloatsTheyStandFor) {
  struct Case {
    const char* op;
    Dims x;
    int64_t columns;
    bool transposed, per_column, bias;
  };
  for (const Case& c : std::vector<Case>{{"MatMul", {3, 5, 18}, 7, false, true, false},
                                         {"MatMul", {1, 40, 64}, 100, false, false, false},
                                         {"Gemm", {1, 19}, 150, true, true, true},
                                         {"Gemm", {33, 16}, 10, false, true, false}}) {
    const int64_t inner = c.x.back();
    const Dims dims = c.transposed ? Dims{c.columns, inner} : Dims{inner, c.columns};
    const auto codes = random_values<int8_t>(inner * c.columns, 1);
    std::vector<float> scales = random_values<float>(c.per_column ? c.columns : 1, 2);
    for (float& s : scales) s = std::abs(s) / 100 + 1e-4f;
    for (const int threads : {1, 3}) {
      std::vector<float> outputs[2];
      for (const bool fused : {false, true}) {
        Quantized q(fused, c.x.size(), uint8_t{120}, codes, dims, scales, c.transposed ? 0 : 1);
        std::vector<int32_t> inputs{q.rounded, q.weight};
        if (c.bias)
          inputs.push_back(q.net.constant(random_values<float>(c.columns, 3), {c.columns}));
        Attributes attributes;
        if (c.transposed) attributes["transB"] = int64_t{1};
        int32_t y = q.net.node(c.op, inputs, attributes);
        y = q.net.node("Relu", {y});
        Engine engine = q.net.finish(y, threads);
        ASSERT_EQ(operators_of(engine) == std::vector<std::string>{"Int8MatMul"}, fused);
        outputs[fused] = q.run(engine, random_input(c.x, 4));
      }
      const auto terms = static_cast<double>(inner);
      ASSERT_NO_FATAL_FAILURE(
          expect_near(outputs[1], outputs[0], 4 * (terms + 2) * 0x1p-24 * 2.6 * terms));
    }
  }
}

// A product with a constant for each channel goes into the rounding behind it.
TEST(NetworkFuseTest, FactorsOfChannelsAreTakenIn) {
  const std::vector<float> factors{0.5f, 2, -1, 1.5f, 0.1f, 3};
  for (const bool conv : {true, false}) {
    const Dims dims = conv ? Dims{5, 6, 3, 3} : Dims{6, 5};
    const Dims x_dims = conv ? Dims{2, 6, 7, 8} : Dims{2, 7, 6};
    const auto codes = random_values<int8_t>(size_of(dims), 1);
    for (const bool known : {true, false}) {
      std::vector<float> outputs[2];
      for (const bool fused : {false, true}) {
        Quantized q(fused, x_dims.size(), uint8_t{120}, codes, dims, {0.01f}, 0,
                    [&](Net& net, int32_t x) {
                      const Dims along = conv ? Dims{6, 1, 1} : Dims{6};
                      if (known) net.shape(x)[conv ? 1 : 2].value = 6;
                      return net.declare(net.node("Mul", {net.constant(factors, along), x}),
                                         any_shape(x_dims.size()));
                    });
        Engine engine = q.net.finish(q.net.node(conv ? "Conv" : "MatMul", {q.rounded, q.weight}));
        const std::string layer = conv ? "Int8Conv" : "Int8MatMul";
        const auto ops = operators_of(engine);
        if (fused && known) {
          EXPECT_EQ(ops, std::vector<std::string>{layer});
        } else if (fused) {  // the constant might widen what it is multiplied by
          EXPECT_EQ(ops, (std::vector<std::string>{"Mul", layer}));
        }
        outputs[fused] = q.run(engine, random_input(x_dims, 7));
      }
      // |x| <= 6 after the factors, |w| <= 1.27, 54 terms
      ASSERT_NO_FATAL_FAILURE(expect_near(outputs[1], outputs[0], 4 * 56 * 0x1p-24 * 7.7 * 54));
    }
  }
}

// Codes that flow through a node of floats are rounded in one step; what somebody else reads stays.
TEST(NetworkFuseTest, ARoundedValueStaysForWhoReadsIt) {
  for (const bool fused : {false, true}) {
    Quantized q(fused, 4, uint8_t{131}, {1}, {1}, {1.f}, 0);
    const int32_t y = q.net.node("MaxPool", {q.rounded}, {{"kernel_shape", Dims{2, 2}}});
    Engine engine = q.net.finish(std::vector{y, q.rounded});
    const auto ops = operators_of(engine);
    EXPECT_EQ(std::count(ops.begin(), ops.end(), "RoundToCodes"), fused ? 1 : 0);
    EXPECT_EQ(std::count(ops.begin(), ops.end(), "QuantizeLinear"), fused ? 0 : 1);
    const Floats in = random_input({1, 1, 3, 3}, 1);
    q.run(engine, in);
    const std::vector<float> rounded = result(engine, 1);
    for (size_t i = 0; i < rounded.size(); ++i) {
      const float code =
          std::clamp(std::nearbyint(in.values[i] / Quantized::kScale), -131.f, 124.f);
      EXPECT_EQ(rounded[i], code * Quantized::kScale) << i;
    }
  }
}

TEST(NetworkFuseTest, AValueThatIsReadTwiceKeepsItsNode) {
  for (const bool output : {false, true}) {
    Net net;
    const int32_t x = net.input("x", any_shape(4));
    const int32_t y = net.node("Conv", {x, net.constant<float>({-1}, {1, 1, 1, 1})});
    const int32_t z = net.node("Relu", {y});
    Engine engine = output ? net.finish(std::vector{z, y}) : net.finish(net.node("Add", {z, y}));
    EXPECT_EQ(operators_of(engine)[1], "Relu");
    Floats in{codec::DType::kF32, {1, 1, 1, 2}, {3, -5}};
    engine.run(std::vector{in.view()});
    EXPECT_EQ(result(engine), output ? (std::vector<float>{0, 5}) : (std::vector<float>{-3, 10}));
  }
}

TEST(NetworkFuseTest, BoundsThatAreNoConstantsStayANode) {
  Net net;
  const int32_t x = net.input("x", any_shape(4)), high = net.input("high", {});
  const int32_t y = net.node("Conv", {x, net.constant<float>({1}, {1, 1, 1, 1})});
  Engine engine = net.finish(net.node("Clip", {y, net.constant<float>({-1}, {}), high}));
  EXPECT_EQ(operators_of(engine), (std::vector<std::string>{"Conv", "Clip"}));
  Floats in{codec::DType::kF32, {1, 1, 1, 3}, {3, -5, 1}}, bound{codec::DType::kF32, {}, {2}};
  engine.run(std::vector{in.view(), bound.view()});
  EXPECT_EQ(result(engine), (std::vector<float>{2, -1, 1}));
}

// A constant that is an input, too, may be given another value.
TEST(NetworkFuseTest, ConstantsThatMayBeGivenAreNotFused) {
  Net net;
  const int32_t x = net.input("x", any_shape(4)),
                high = net.replaceable(net.constant<float>({6}, {}));
  const int32_t y = net.node("Conv", {x, net.constant<float>({1}, {1, 1, 1, 1})});
  Engine engine = net.finish(net.node("Clip", {y, net.constant<float>({-1}, {}), high}));
  Floats in{codec::DType::kF32, {1, 1, 1, 3}, {3, -5, 1}}, bound{codec::DType::kF32, {}, {2}};
  engine.run(std::vector{in.view(), bound.view()});
  EXPECT_EQ(result(engine), (std::vector<float>{2, -1, 1}));

  Quantized q(true, 2, uint8_t{131}, {1, 0, 0, 1}, {2, 2}, {1.f}, 1);
  q.net.replaceable(q.scale);
  Engine rounds = q.net.finish(q.net.node("MatMul", {q.rounded, q.weight}));
  Floats halves{codec::DType::kF32, {1, 2}, {0.6f, -1.2f}}, half{codec::DType::kF32, {}, {0.5f}};
  rounds.run(std::vector{halves.view(), half.view()});
  EXPECT_EQ(result(rounds), (std::vector<float>{0.5f, -1}));
}

// What If and Loop make has a type and a rank that nobody may know before.
TEST(NetworkFuseTest, ValuesOfUnknownTypeAndRankAreLeftAsTheyAre) {
  Quantized q(true, 2, uint8_t{128}, {1, 2, 3, 4}, {2, 2}, {1.f}, 1);
  q.net.at(q.x).shape.reset();
  Engine engine = q.net.finish(q.net.node("MatMul", {q.rounded, q.weight}));
  Floats in{codec::DType::kF32, {2}, {0.17f, 0.34f}};
  engine.run(std::vector{in.view()});
  ASSERT_EQ(engine.output(0).dims, (Dims{2}));
  ASSERT_NO_FATAL_FAILURE(
      expect_near(result(engine), {0.17f + 3 * 0.34f, 2 * 0.17f + 4 * 0.34f}, 1e-5));

  for (const bool known : {false, true}) {
    Quantized rounding(true, 1, uint8_t{0}, {1}, {1}, {1.f}, 0);
    rounding.net.at(rounding.x).shape.reset();
    rounding.net.at(rounding.x).dtype.reset();
    if (known) rounding.net.at(rounding.x).dtype = codec::DType::kI32;
    Engine rounds = rounding.net.finish(rounding.rounded);
    test::Elements<int32_t> integers{codec::DType::kI32, {2}, {1, 2}};
    rounds.run(std::vector{integers.view()});
    ASSERT_NO_FATAL_FAILURE(expect_near(result(rounds), {59 * 0.017f, 118 * 0.017f}, 1e-5));
  }
}

// A window that breaks a rule is refused by the node's name, as that of any Conv.
TEST(NetworkFuseTest, AnErrorOfAQuantizedLayerNamesIt) {
  Quantized q(true, 4, uint8_t{131}, {1}, {1, 1, 1, 1}, {1.f}, 0);
  const int32_t y = q.net.node("Conv", {q.rounded, q.weight}, {{"strides", Dims{1, 1, 1}}});
  test::expect_error(ErrorCode::kInvalidArgument, {"[runtime] node 'Conv", "strides has 3"}, [&] {
    Engine engine = q.net.finish(y);
    q.run(engine, random_input({1, 1, 2, 2}, 1));
  });
}

// Nodes that only fuse() makes are none of a file's, nor of a subgraph's.
TEST(NetworkFuseTest, FusedNodesOfAFileAreRefused) {
  const auto expect_refused = [](const std::string& op, const auto& finish) {
    test::expect_error(ErrorCode::kUnsupported, {"packlight." + op, "not implemented"}, finish);
  };
  for (const char* op : {"Conv", "Int8Conv", "Int8MatMul", "RoundToCodes"}) {
    const auto add = [op](Net& net) {
      const int32_t one = net.constant<float>({1}, {1, 1, 1, 1});
      return net.node(op, {one, one}, {{"x_scale", 1.0}, {"x_zero", int64_t{0}}}, "packlight");
    };
    Net net;
    expect_refused(op, [&] { net.finish(add(net)); });
    Net branch, choice;
    const auto graph = branch.graph({add(branch)});
    expect_refused(op, [&] {
      choice.finish(choice.node("If", {choice.boolean(true)},
                                {{"then_branch", graph}, {"else_branch", graph}}));
    });
  }
}

// The shape that a fused operator gives for inputs of those shapes.
Dims shape_of(const std::string& op, const Attributes& attributes, std::vector<Tensor> inputs) {
  io::NetworkNode node;
  node.name = "layer";
  node.op = op;
  node.attributes = attributes;
  std::vector<const Tensor*> pointers;
  for (const Tensor& input : inputs) pointers.push_back(&input);
  std::vector<Tensor> outputs(1);
  node.outputs = {0};
  infer(*find_operator(op, "packlight"), node, pointers, outputs);
  return outputs[0].dims;
}

std::vector<Tensor> int8_inputs(Dims x, Dims quads, int64_t outputs) {
  using codec::DType;
  return {{DType::kF32, std::move(x), nullptr, nullptr},
          {DType::kI8, std::move(quads), nullptr, nullptr},
          {DType::kI32, {outputs}, nullptr, nullptr},
          {DType::kF32, {outputs}, nullptr, nullptr}};
}

// Operators rely on what they are given, so they check it.
TEST(NetworkFuseTest, FusedNodesAreChecked) {
  const auto conv = [](Dims weight, int64_t quads, Dims x, double scale = 0.5, int64_t zero = 3,
                       Attributes attributes = {}) {
    attributes.insert({"weight_shape", weight});
    attributes.insert({"x_scale", scale});
    attributes.insert({"x_zero", zero});
    return shape_of("Int8Conv", attributes, int8_inputs(x, {weight[0], quads}, weight[0]));
  };
  const Dims weight{2, 3, 1, 1}, x{1, 3, 2, 2};
  EXPECT_EQ(conv(weight, 4, x), (Dims{1, 2, 2, 2}));
  EXPECT_EQ(conv({1, 4, 1, 1, 1}, 4, {1, 4, 1, 2, 2}), (Dims{1, 1, 1, 2, 2}));
  const auto refused = [](std::initializer_list<std::string> parts, const auto& fn) {
    test::expect_error(ErrorCode::kInvalidArgument, parts, fn);
  };
  refused({"Int8Conv", "[2, 3]", "[2, 4]"}, [&] { conv(weight, 3, x); });
  refused({"scale 0"}, [&] { conv(weight, 4, x, 0); });
  refused({"nan"}, [&] { conv(weight, 4, x, std::nan("")); });
  refused({"zero point 300"}, [&] { conv(weight, 4, x, 0.5, 300); });
  const std::string no_kernel = "no kernel";
  // Its kernels go over two axes, ...
  refused({no_kernel}, [&] { conv({1, 4, 2, 1, 1}, 8, {1, 4, 2, 1, 1}); });
  refused({no_kernel}, [&] {
    conv({1, 4, 1, 1, 1}, 4, {1, 4, 3, 1, 1}, 1, 0, {{"strides", Dims{2, 1, 1}}});
  });
  refused({no_kernel}, [&] {
    conv({1, 4, 1, 1, 1}, 4, {1, 4, 1, 1, 1}, 1, 0,
         {{"strides", Dims{2, 1, 1}}, {"pads", Dims{1, 0, 0, 0, 0, 0}}});
  });
  // ... and a sum has terms, but not more than 32 bits hold.
  refused({no_kernel}, [&] { conv({1, 0, 1, 1}, 0, {1, 0, 4, 4}); });
  refused({no_kernel}, [&] { conv({1, 1 << 16, 1, 1}, 1 << 16, {1, 1 << 16, 1, 1}); });
  const auto matmul = [](int64_t inner, int64_t zero = 0) {
    return shape_of("Int8MatMul", {{"inner", inner}, {"x_scale", 1.0}, {"x_zero", zero}},
                    int8_inputs({3, inner}, {inner / 4, 4 * 2}, 2));
  };
  EXPECT_EQ(matmul(1 << 14), (Dims{3, 2}));
  refused({"Int8MatMul", "262144"}, [&] { matmul(1 << 18); });
  refused({"Int8MatMul", "terms"}, [&] { matmul(0); });

  io::NetworkNode activated;
  activated.attributes["activation"] = int64_t{99};
  test::expect_error(ErrorCode::kCorrupt, {"99"}, [&] { fused_activation(activated); });
}

}  // namespace
}  // namespace packlight::runtime
