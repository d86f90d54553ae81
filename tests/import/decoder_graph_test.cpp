#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <set>

#include "exec/executor.h"
#include "graph/error_of.h"
#include "graph/weight.h"
#include "import/tiny_decoder.h"

namespace packlight::import {
namespace {

using test::close;
using test::contains;
using test::error_of;
using test::integers;

// Logits here are below 50 after some 20 rounded products of up to 48 terms each; 2^-24 * 50 * 48 *
// 4 covers their rounding.
constexpr double kBound = 50 * 48 * 4 * 0x1p-24;

at::Tensor token_ids(int64_t n) { return at::arange(n, at::kLong).mul(17).add(3).remainder(40); }

at::Tensor run(const graph::Graph& graph, const at::Tensor& ids, exec::ExecOptions options = {}) {
  exec::Executor executor(graph, options);
  const at::Tensor positions = at::arange(ids.size(0), at::kLong).unsqueeze(0);
  return executor.run({{"input_ids", ids.unsqueeze(0)}, {"position_ids", positions}})
      .at("logits")[0];
}

struct Variant {
  const char* name;
  io::DecoderConfig config;
};
std::vector<Variant> variants() {
  std::vector<Variant> all = {
      {"llama", test::small_config("llama")},       {"mistral", test::small_config("mistral")},
      {"qwen2", test::small_config("qwen2")},       {"window", test::small_config("mistral")},
      {"llama3_rope", test::small_config("llama")}, {"factors", test::small_config("llama")}};
  all[3].config.sliding_window = 5;
  all[4].config.rope_scaling = io::Llama3RopeScaling{8, 1, 4, 32};
  all[5].config.rope_frequency_factors = {1, 2, 4, 8};
  return all;
}
class DecoderGraphTest : public ::testing::TestWithParam<Variant> {};

TEST_P(DecoderGraphTest, LogitsEqualTheFormulas) {
  const io::DecoderConfig& config = GetParam().config;
  const auto weights = test::random_weights(config);
  const at::Tensor ids = token_ids(19);
  const at::Tensor want = test::ReferenceDecoder(config, weights).logits(ids);
  EXPECT_LT(want.abs().max().item<double>(), 50);
  EXPECT_GT(want.abs().max().item<double>(), 1);
  const graph::Graph graph = test::small_graph(config, weights);
  EXPECT_TRUE(close(run(graph, ids), want, kBound));
  exec::ExecOptions small_chunks;
  small_chunks.attention_query_chunk = 3;
  EXPECT_TRUE(close(run(graph, ids, small_chunks), want, kBound));
}

INSTANTIATE_TEST_SUITE_P(Family, DecoderGraphTest, ::testing::ValuesIn(variants()),
                         [](const auto& info) { return info.param.name; });

TEST(DecoderGraphShapesTest, NamesBlocksAndSymbols) {
  const io::DecoderConfig config = test::small_config();
  const graph::Graph graph = test::small_graph(config, test::random_weights(config));
  const auto blocks = graph::blocks(graph);
  ASSERT_EQ(blocks.size(), 4u);
  EXPECT_EQ(blocks[0].name, "embed");
  EXPECT_EQ(blocks[1].name, "model.layers.0");
  EXPECT_EQ(blocks[2].name, "model.layers.1");
  EXPECT_EQ(blocks[3].name, "head");
  EXPECT_EQ(graph::to_string(*graph.value(graph.outputs[0]).shape), "[batch, sequence, 40]");
  EXPECT_EQ(graph::to_string(*graph.value(*graph.find("model.layers.1.self_attn.attention")).shape),
            "[batch, sequence, 48]");
  // Every matrix keeps its name and orientation and is reached by exactly the nodes that multiply
  // by it.
  std::set<std::string> multiplied;
  for (const graph::Node& node : graph.nodes()) {
    const auto weight = graph::linear_weight(graph, node);
    if (!weight) continue;
    EXPECT_TRUE(weight->transposed);
    multiplied.insert(graph.value(weight->value).name);
    if (node.name != "lm_head") EXPECT_EQ(graph.value(weight->value).name, node.name + ".weight");
  }
  for (const io::TensorSpec& spec : io::decoder_tensors(config))
    EXPECT_EQ(multiplied.count(spec.name), !spec.is_vector);
}

TEST(DecoderGraphShapesTest, BlockByBlockEqualsWholeAndHeadNeedsOnlyHidden) {
  const io::DecoderConfig config = test::small_config();
  const graph::Graph graph = test::small_graph(config, test::random_weights(config));
  const at::Tensor ids = token_ids(11);
  const at::Tensor whole = run(graph, ids);
  exec::Executor executor(graph);
  exec::Values live{{*graph.find("input_ids"), ids.unsqueeze(0)},
                    {*graph.find("position_ids"), at::arange(11, at::kLong).unsqueeze(0)}};
  const auto blocks = graph::blocks(graph);
  for (size_t i = 0; i + 1 < blocks.size(); ++i) {
    executor.run_nodes(blocks[i].begin, blocks[i].end, live);
    executor.release_weights(blocks[i].begin, blocks[i].end);
  }
  ASSERT_EQ(live.size(), 1u);
  live.begin()->second = live.begin()->second.narrow(1, 7, 4);  // the rows wanted
  executor.run_nodes(blocks.back().begin, blocks.back().end, live);
  EXPECT_TRUE(close(live.at(graph.outputs[0])[0], whole.narrow(0, 7, 4), kBound));
}

TEST(DecoderGraphShapesTest, SequencesOfABatchAreIndependent) {
  const io::DecoderConfig config = test::small_config("qwen2");
  const graph::Graph graph = test::small_graph(config, test::random_weights(config));
  const at::Tensor a = token_ids(9), b = token_ids(12).narrow(0, 3, 9);
  exec::Executor executor(graph);
  const at::Tensor positions = at::arange(9, at::kLong).expand({2, 9});
  const at::Tensor both =
      executor.run({{"input_ids", at::stack({a, b})}, {"position_ids", positions}}).at("logits");
  EXPECT_TRUE(close(both[0], run(graph, a), kBound));
  EXPECT_TRUE(close(both[1], run(graph, b), kBound));
}

TEST(DecoderGraphShapesTest, GradientsEqualDifferences) {
  io::DecoderConfig config = test::small_config("qwen2");
  config.sliding_window = 4;
  const auto weights = test::random_weights(config);
  const graph::Graph graph = test::small_graph(config, weights);
  const at::Tensor ids = token_ids(7), targets = test::noise({7, 40}, 99).to(at::kDouble);
  exec::ExecOptions options;
  options.gradients = true;
  options.attention_query_chunk = 3;
  for (const std::string name :
       {"model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.k_proj.bias", "model.layers.1.self_attn.v_proj.weight",
        "model.layers.1.mlp.gate_proj.weight", "model.layers.0.input_layernorm.weight"}) {
    exec::Executor executor(graph, options);
    at::Tensor parameter = weights.at(name).clone().requires_grad_(true);
    executor.set_parameter(*graph.find(name), parameter);
    const at::Tensor logits = executor
                                  .run({{"input_ids", ids.unsqueeze(0)},
                                        {"position_ids", at::arange(7, at::kLong).unsqueeze(0)}})
                                  .at("logits")[0];
    (logits * targets.to(at::kFloat)).sum().backward();
    // The reference decoder in double, moved along one direction.
    const at::Tensor direction = test::noise(parameter.sizes(), 5).to(at::kDouble);
    const auto loss = [&](double step) {
      test::NamedTensors moved;
      for (const auto& [key, tensor] : weights) moved[key] = tensor.to(at::kDouble);
      moved[name] = moved[name] + direction * step;
      return (test::ReferenceDecoder(config, moved).logits(ids) * targets).sum().item<double>();
    };
    const double want = (loss(1e-5) - loss(-1e-5)) / 2e-5;
    const double got = (parameter.grad().to(at::kDouble) * direction).sum().item<double>();
    const double size = (parameter.grad().to(at::kDouble) * direction).abs().sum().item<double>();
    EXPECT_NEAR(got, want, size * 1e-5) << name;  // F32 products of a few hundred terms
  }
}

TEST(DecoderGraphErrorsTest, WrongShapesAndTypesAreNamed) {
  const io::DecoderConfig config = test::small_config();
  auto weights = test::random_weights(config);
  weights["model.layers.1.mlp.up_proj.weight"] = at::ones({31, 32});
  EXPECT_TRUE(contains(error_of([&] { test::small_graph(config, weights); }),
                       "Corrupt: [import] tensor 'model.layers.1.mlp.up_proj.weight' has shape "
                       "[31, 32], the config asks for [32, 32]"));
  weights["model.layers.1.mlp.up_proj.weight"] = at::ones({32, 32}, at::kLong);
  EXPECT_TRUE(contains(error_of([&] { test::small_graph(config, weights); }), "is stored as I64"));
}

}  // namespace
}  // namespace packlight::import
