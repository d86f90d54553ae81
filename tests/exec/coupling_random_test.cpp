// Random networks of the pieces that real ones are made of: what a mask has zeroed can be cut, and
// no output changes beyond rounding.

#include <gtest/gtest.h>

#include "exec/coupling_cut.h"

namespace packlight::exec {
namespace {

using graph::ValueId;
using test::noise;
using test::SmallNet;

class RandomNet {
 public:
  explicit RandomNet(uint64_t seed) : draw_(seed) {
    Picture x{net.input("x", {std::string("n"), 3, 6, 6}), 3};
    x = conv(x, channels());
    const int pieces = 3 + pick(6);
    for (int i = 0; i < pieces; ++i) x = piece(x);
    const ValueId pooled = pick(2) == 0 ? net.op("GlobalAveragePool", {x.value})
                                        : net.op("MaxPool", {x.value},
                                                 {{"kernel_shape", std::vector<int64_t>{3, 3}},
                                                  {"strides", std::vector<int64_t>{3, 3}}});
    const int64_t features = net_shape_size(pooled);
    const ValueId flat = net.op("Flatten", {pooled});
    const ValueId classes =
        net.op("Gemm", {flat, constant({5, features}), constant({5})}, {{"transB", int64_t{1}}});
    net.returns({classes, sequence(x)});
  }

  SmallNet net;

 private:
  struct Picture {
    ValueId value;
    int64_t channels;
  };

  int64_t pick(int64_t count) { return static_cast<int64_t>(draw_() % count); }
  int64_t channels() { return 4 + 4 * pick(3); }
  ValueId constant(std::vector<int64_t> shape) { return net.constant(noise(shape, draw_()) * 0.5); }

  int64_t net_shape_size(ValueId value) {
    graph::infer_shapes(net.graph);
    int64_t size = 1;
    for (size_t i = 1; i < net.graph.value(value).shape->size(); ++i)
      size *= (*net.graph.value(value).shape)[i].value;
    return size;
  }

  Picture conv(Picture x, int64_t out, int64_t groups = 1) {
    const int64_t kernel = 1 + 2 * pick(2), pad = kernel / 2;
    std::vector<ValueId> inputs{x.value, constant({out, x.channels / groups, kernel, kernel})};
    if (pick(2) == 0) inputs.push_back(constant({out}));
    return {net.op("Conv", inputs,
                   {{"group", groups}, {"pads", std::vector<int64_t>{pad, pad, pad, pad}}}),
            out};
  }

  Picture gate(Picture x) {  // squeeze and excitation
    const Picture inner = conv({net.op("GlobalAveragePool", {x.value}), x.channels}, 4);
    const Picture scale = conv({net.op("Relu", {inner.value}), 4}, x.channels);
    return {net.op("Mul", {x.value, net.op("Sigmoid", {scale.value})}), x.channels};
  }

  Picture split(Picture x) {
    const int64_t first = 1 + pick(x.channels - 1);
    const auto parts = net.ops("Split", {x.value, net.ints({first, x.channels - first})},
                               {{"axis", int64_t{1}}}, 2);
    if (pick(2) == 0)
      return {net.op("Concat", {parts[1], parts[0]}, {{"axis", int64_t{1}}}), x.channels};
    const Picture a = conv({parts[0], first}, x.channels),
                  b = conv({parts[1], x.channels - first}, x.channels);
    return {net.op("Add", {a.value, b.value}), x.channels};
  }

  Picture shuffle(Picture x) {
    const ValueId apart = net.op("Reshape", {x.value, net.ints({0, 2, x.channels / 2, 6, 6})});
    const ValueId turned =
        net.op("Transpose", {apart}, {{"perm", std::vector<int64_t>{0, 2, 1, 3, 4}}});
    return {net.op("Reshape", {turned, net.ints({0, x.channels, 6, 6})}), x.channels};
  }

  Picture normal(Picture x) {
    const auto c = x.channels;
    if (pick(3) == 0)
      return {net.op("GroupNormalization", {x.value, constant({c}), constant({c})},
                     {{"num_groups", int64_t{2}}}),
              c};
    if (pick(3) == 0)
      return {net.op("InstanceNormalization", {x.value, constant({c}), constant({c})}), c};
    return {net.op("BatchNormalization", {x.value, constant({c}), constant({c}), constant({c}),
                                          net.constant(at::ones({c}))}),
            c};
  }

  Picture piece(Picture x) {
    switch (pick(12)) {
      case 0:
        return conv(x, channels());
      case 1:
        return conv(x, x.channels, x.channels);
      case 2:
        return conv(x, 2 * x.channels, pick(2) == 0 ? x.channels : 2);
      case 3:
        return normal(x);
      case 4:
        return {net.op(pick(2) == 0 ? "Relu" : "HardSwish", {x.value}), x.channels};
      case 5:
        return {net.op("Add", {x.value, conv(x, x.channels).value}), x.channels};
      case 6: {
        const Picture other = conv(x, channels());
        return {net.op("Concat", {x.value, other.value}, {{"axis", int64_t{1}}}),
                x.channels + other.channels};
      }
      case 7:
        return split(x);
      case 8:
        return gate(x);
      case 9: {
        const int64_t begin = pick(x.channels / 2), end = begin + 1 + pick(x.channels / 2);
        return conv({net.op("Slice", {x.value, net.ints({begin}), net.ints({end}), net.ints({1})}),
                     end - begin},
                    channels());
      }
      case 10: {
        const int64_t out = channels();
        return {net.op("ConvTranspose", {x.value, constant({x.channels, out, 1, 1})}), out};
      }
      default:
        return shuffle(x);
    }
  }

  // [n, c, 6, 6] -> [n, 36, c], attention of two or four heads on two, a feed-forward layer.
  ValueId sequence(Picture x) {
    const ValueId rows =
        net.op("Transpose", {net.op("Reshape", {x.value, net.ints({0, x.channels, 36})})},
               {{"perm", std::vector<int64_t>{0, 2, 1}}});
    const int64_t heads = pick(2) == 0 ? 2 : 4, size = 3;
    const ValueId q = net.op("MatMul", {rows, constant({x.channels, heads * size})});
    const ValueId k = net.op("MatMul", {rows, constant({x.channels, 2 * size})});
    const ValueId v = net.op("MatMul", {rows, constant({x.channels, 2 * size})});
    const ValueId mixed =
        net.op("Attention", {q, k, v}, {{"q_num_heads", heads}, {"kv_num_heads", int64_t{2}}});
    const ValueId sum =
        net.op("Add", {rows, net.op("MatMul", {mixed, constant({heads * size, x.channels})})});
    const ValueId normal = net.op("RMSNormalization", {sum, constant({x.channels})});
    const ValueId gate = net.op("Gelu", {net.op("MatMul", {normal, constant({x.channels, 7})})});
    const ValueId up = net.op("MatMul", {normal, constant({x.channels, 7})});
    const ValueId down = net.op("MatMul", {net.op("Mul", {gate, up}), constant({7, x.channels})});
    return net.op("MatMul", {net.op("Add", {sum, down}), constant({x.channels, 4})});
  }

  std::mt19937_64 draw_;
};

TEST(CouplingRandomTest, WhatAMaskZeroedCanBeCutFromAnyNetwork) {
  int64_t cut = 0;
  for (uint64_t seed = 0; seed < 120; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomNet random(seed);
    std::mt19937_64 draw(seed);
    cut += test::expect_cut_keeps_outputs(random.net.graph, draw);
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(cut, 120 * 10);  // the networks leave something to cut
}

}  // namespace
}  // namespace packlight::exec
