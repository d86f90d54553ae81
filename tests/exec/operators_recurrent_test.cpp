#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "exec/run_operator.h"
#include "exec/tensor_compare.h"
#include "graph/error_of.h"

namespace packlight::exec {
namespace {

using test::Attributes;
using test::close;
using test::contains;
using test::error_of;
using test::integers;
using test::noise;
using test::run_all;
using test::tensor;
using Names = std::vector<std::string>;
using Numbers = std::vector<double>;

// -5/8 to 5/8.
at::Tensor ramp(at::IntArrayRef shape, int64_t seed) {
  const at::Tensor flat = at::arange(c10::multiply_integers(shape), at::kLong) * 7 + seed;
  return ((flat.remainder(11) - 5).to(at::kFloat) / 8).reshape(shape);
}

// X, W, R, B, sequence_lens, initial_h (and initial_c, P): 3 steps of 2 samples with one feature,
// 2 hidden.
std::vector<at::Tensor> ramps(int64_t gates, int64_t directions, const at::Tensor& lengths,
                              bool cell = false, bool peephole = false) {
  std::vector<at::Tensor> in{ramp({3, 2, 1}, 1),
                             ramp({directions, gates * 2, 1}, 2),
                             ramp({directions, gates * 2, 2}, 3),
                             ramp({directions, gates * 4}, 4),
                             lengths,
                             ramp({directions, 2, 2}, 5)};
  if (cell) in.push_back(ramp({directions, 2, 2}, 6));
  if (peephole) in.push_back(ramp({directions, 6}, 7));
  return in;
}

// The numbers are ONNX Runtime 1.x's for the same inputs. States are below one; a step adds a dozen
// roundings of gates and two of ONNX Runtime's approximated functions.
constexpr double kBound = 3 * 16 * 0x1p-23;

TEST(OperatorsRecurrentTest, LstmWithPeepholesClipAndLengths) {
  const auto out = run_all("LSTM", ramps(4, 2, integers({3, 1}, {2}), true, true),
                           {{"direction", "bidirectional"}, {"clip", 0.25}}, 3);
  EXPECT_TRUE(close(out[0],
                    tensor({-0.0248198733f,
                            -0.0451904386f,
                            0.0786441714f,
                            0.0467691869f,
                            0.0264743455f,
                            -0.0753128231f,
                            -0.0178001449f,
                            -0.241137445f,
                            -0.0769579411f,
                            0.0214353595f,
                            0,
                            0,
                            -0.034010198f,
                            -0.0273186043f,
                            0,
                            0,
                            -0.101613358f,
                            0.0586536899f,
                            0,
                            0,
                            -0.0749791712f,
                            0.0580256693f,
                            0,
                            0},
                           {3, 2, 2, 2}),
                    kBound));
  EXPECT_TRUE(close(out[1],
                    tensor({-0.101613358f, 0.0586536899f, 0.0786441714f, 0.0467691869f,
                            0.0264743455f, -0.0753128231f, -0.0178001449f, -0.241137445f},
                           {2, 2, 2}),
                    kBound));
  EXPECT_TRUE(close(out[2],
                    tensor({-0.182757869f, 0.134776711f, 0.140815765f, 0.107231148f, 0.0471274555f,
                            -0.134776711f, -0.0316735059f, -0.458591431f},
                           {2, 2, 2}),
                    kBound));
}

TEST(OperatorsRecurrentTest, LstmWithCoupledForgetGate) {
  const auto out = run_all("LSTM", ramps(4, 1, {}, true, true),
                           {{"direction", "reverse"}, {"input_forget", int64_t{1}}}, 3);
  EXPECT_TRUE(close(out[2],
                    tensor({-0.381005466f, 0.296169847f, -0.326078922f, 0.424197018f}, {1, 2, 2}),
                    kBound));
}

TEST(OperatorsRecurrentTest, GruWithOtherActivations) {
  const auto out =
      run_all("GRU", ramps(3, 2, integers({2, 3}, {2})),
              {{"direction", "bidirectional"},
               {"linear_before_reset", int64_t{1}},
               {"activations", Names{"HardSigmoid", "LeakyRelu", "Sigmoid", "ScaledTanh"}},
               {"activation_alpha", Numbers{0.3, 0.05, 1.5}},
               {"activation_beta", Numbers{0.4, 0.5}}},
              2);
  EXPECT_TRUE(close(out[0],
                    tensor({0.601699233f,
                            -0.048828125f,
                            0.886688232f,
                            -0.0126464851f,
                            -0.0622874126f,
                            -0.174606234f,
                            0.0533007309f,
                            -0.254118711f,
                            0.730609775f,
                            0.0725017935f,
                            0.639180541f,
                            0.146995991f,
                            -0.15656352f,
                            0.0195889473f,
                            -0.0233653132f,
                            0.0384698063f,
                            0,
                            0,
                            0.645184457f,
                            0.152999982f,
                            0,
                            0,
                            -0.0668333471f,
                            0.298587114f},
                           {3, 2, 2, 2}),
                    kBound));
  EXPECT_TRUE(close(out[1],
                    tensor({0.730609775f, 0.0725017935f, 0.645184457f, 0.152999982f, -0.0622874126f,
                            -0.174606234f, 0.0533007309f, -0.254118711f},
                           {2, 2, 2}),
                    kBound));
}

TEST(OperatorsRecurrentTest, GruWithClip) {
  const auto out = run_all("GRU", ramps(3, 1, {}), {{"clip", 0.25}}, 2);
  EXPECT_TRUE(close(out[1],
                    tensor({0.224363565f, -0.0241540689f, 0.255835861f, 0.0558550172f}, {1, 2, 2}),
                    kBound));
}

TEST(OperatorsRecurrentTest, RnnBackwardsOverShorterSequences) {
  const auto out = run_all("RNN", ramps(1, 1, integers({2, 3}, {2})),
                           {{"direction", "reverse"},
                            {"activations", Names{"Affine"}},
                            {"activation_alpha", Numbers{0.5}},
                            {"activation_beta", Numbers{0.25}}},
                           2);
  EXPECT_TRUE(close(out[0],
                    tensor({0.344726562f, -0.277832031f, 0.11050415f, -0.0188903809f, 0.1796875f,
                            -0.125f, 0.33203125f, -0.288574219f, 0, 0, 0.2734375f, -0.203125f},
                           {3, 1, 2, 2}),
                    kBound));
}

TEST(OperatorsRecurrentTest, BatchFirstIsTheTransposed) {
  auto in = ramps(4, 2, integers({3, 1}, {2}), true, true);
  const auto want = run_all("LSTM", in, {{"direction", "bidirectional"}}, 3);
  for (const size_t i : {0u, 5u, 6u}) in[i] = in[i].transpose(0, 1).contiguous();
  const auto got = run_all("LSTM", in, {{"direction", "bidirectional"}, {"layout", int64_t{1}}}, 3);
  EXPECT_TRUE(close(got[0], want[0].permute({2, 0, 1, 3}), 0));
  EXPECT_TRUE(close(got[1], want[1].transpose(0, 1), 0));
  EXPECT_TRUE(close(got[2], want[2].transpose(0, 1), 0));
}

// Against a difference quotient of sum(Y * weights) in one direction of R.
TEST(OperatorsRecurrentTest, GradientReachesWeights) {
  for (const char* op : {"LSTM", "GRU", "RNN"}) {
    const int64_t gates = op[0] == 'L' ? 4 : op[0] == 'G' ? 3 : 1;
    auto in = ramps(gates, 1, integers({3, 2}, {2}));
    const at::Tensor weights = noise({3, 1, 2, 2}, 1), direction = noise(in[2].sizes(), 2);
    const auto loss = [&](const at::Tensor& r) {
      in[2] = r;
      return (run_all(op, in, {}, 1)[0] * weights).sum();
    };
    const at::Tensor base = in[2];
    const at::Tensor r = base.clone().set_requires_grad(true);
    loss(r).backward();
    const double slope = (r.grad() * direction).sum().item<double>();
    const double step = 0x1p-7;
    const double quotient =
        (loss(base + direction * step) - loss(base - direction * step)).item<double>() / (2 * step);
    // Losses are below 12, rounded 2^-22 apart; the third derivative is below one per step^2 / 6.
    EXPECT_NEAR(slope, quotient, 12 * 0x1p-22 / step + step * step) << op;
    EXPECT_GT(std::abs(slope), 0.01) << op;
  }
}

TEST(OperatorsRecurrentTest, BadInputIsRefused) {
  const auto error = [](std::vector<at::Tensor> in, Attributes attributes = {}) {
    return error_of([&] { run_all("GRU", in, attributes, 2); });
  };
  const auto in = ramps(3, 1, {});
  EXPECT_TRUE(contains(error(in, {{"direction", "sideways"}}), "unknown direction 'sideways'"));
  EXPECT_TRUE(contains(error(in, {{"direction", "bidirectional"}}), "W is 1x6x1, not 2x6x1"));
  EXPECT_TRUE(contains(error(in, {{"hidden_size", int64_t{3}}}), "hidden_size 3"));
  EXPECT_TRUE(contains(error(in, {{"activations", Names{"Tanh"}}}), "1 activations"));
  EXPECT_TRUE(contains(error(in, {{"activations", Names{"Tanh", "Gauss"}}}), "'Gauss'"));
  EXPECT_TRUE(contains(error(ramps(3, 1, integers({4, 1}, {2}))), "sequence length 4"));
  EXPECT_TRUE(contains(error(ramps(3, 1, integers({1}, {1}))), "sequence_lens is 1, not 2"));
}

}  // namespace
}  // namespace packlight::exec
