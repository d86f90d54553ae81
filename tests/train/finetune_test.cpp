// What fine-tuning a language model adds to a trainer: tokens that come next, activations computed
// again, adapters, zeros that stay.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "error_code.h"
#include "exec/executor.h"
#include "tiny_language_model.h"
#include "train/low_rank.h"
#include "train/trainer.h"

namespace packlight::train {
namespace {

Batch text_batch(int64_t seed = 0) {
  const at::Tensor ids = at::remainder(at::arange(32, at::kLong) * (7 + seed), 37).reshape({2, 16});
  Batch batch;
  batch.inputs["input_ids"] = ids;
  batch.inputs["position_ids"] = at::arange(16, at::kLong).expand({2, 16}).contiguous();
  batch.target.values = ids;
  return batch;
}

TrainOptions adam(bool recompute) {
  TrainOptions options;
  options.loss.kind = LossKind::kNextToken;
  options.optimizer.kind = OptimizerOptions::Kind::kAdamW;
  options.schedule.peak = 0.01;
  options.schedule.total_steps = 20;
  options.recompute = recompute;
  return options;
}

at::Tensor weight(const graph::Graph& graph, const std::string& name) {
  return exec::dense_weight(*graph.value(*graph.find(name)).weight);
}

at::Tensor logits(const graph::Graph& graph) {
  return exec::Executor(graph).run(text_batch().inputs).at("logits");
}

constexpr const char* kDown = "model.layers.1.mlp.down_proj.weight";

TEST(Finetune, LossOfTokensThatComeNextCountsThoseThatAreAskedFor) {
  const at::Tensor output =
      at::log(at::tensor({0.5, 0.25, 0.25, 0.1, 0.1, 0.8, 1., 1., 1.}).reshape({3, 3}))
          .unsqueeze(0);
  LossOptions options;
  options.kind = LossKind::kNextToken;
  const auto of = [&](std::vector<int64_t> tokens) {
    return loss(options, output, {at::tensor(tokens, at::kLong).unsqueeze(0), {}}).item<double>();
  };
  EXPECT_NEAR(of({0, 1, 2}), -(std::log(0.25) + std::log(0.8)) / 2, 1e-6);
  EXPECT_NEAR(of({0, -100, 2}), -std::log(0.8), 1e-6);
  test::expect_error(ErrorCode::kInvalidArgument, {"label 3", "3 classes"}, [&] { of({0, 3, 2}); });
}

TEST(Finetune, ActivationsThatAreComputedAgainTrainTheSame) {
  at::Tensor after[2];
  for (const bool recompute : {false, true}) {
    import::LanguageModel model = test::tiny_model(test::tiny_config());
    Trainer trainer(model.graph, adam(recompute));
    const double first = trainer.train_on(text_batch());
    for (int i = 0; i < 9; ++i) trainer.train_on(text_batch());
    EXPECT_LT(trainer.train_on(text_batch()), 0.8 * first);
    trainer.store();
    after[recompute] = weight(model.graph, kDown);
  }
  EXPECT_TRUE(at::allclose(after[0], after[1], 1e-3, 1e-4));
}

TEST(Finetune, MergedAdaptersComputeWhatTheyDidBesideTheWeights) {
  import::LanguageModel model = test::tiny_model(test::tiny_config());
  const at::Tensor before = logits(model.graph), head = weight(model.graph, "model.norm.weight");
  graph::Graph trained = model.graph;
  LowRankOptions options;
  options.rank = 4;
  const std::vector<Adapter> adapters = add_adapters(trained, options);
  EXPECT_EQ(adapters.size(), 2u * 7);
  EXPECT_TRUE(at::equal(logits(trained), before));  // B is zero
  Trainer trainer(trained, adam(true), adapter_parameters(trained, adapters));
  const double first = trainer.train_on(text_batch());
  for (int i = 0; i < 14; ++i) trainer.train_on(text_batch());
  EXPECT_LT(trainer.train_on(text_batch()), 0.9 * first);
  trainer.store();
  merge_adapters(trained, adapters, model.graph);
  EXPECT_TRUE(at::allclose(logits(model.graph), logits(trained), 1e-3, 1e-3));
  EXPECT_FALSE(at::allclose(logits(model.graph), before, 1e-2, 1e-2));
  EXPECT_TRUE(at::equal(weight(model.graph, "model.norm.weight"), head));
}

TEST(Finetune, AdaptersOfTargetsOnly) {
  import::LanguageModel model = test::tiny_model(test::tiny_config());
  LowRankOptions options;
  options.targets = {"*.down_proj.weight"};
  graph::Graph some = model.graph;
  EXPECT_EQ(add_adapters(some, options).size(), 2u);
  options.targets.push_back("nothing*");
  test::expect_error(ErrorCode::kInvalidArgument, {"'nothing*'"},
                     [&] { add_adapters(model.graph, options); });
}

TEST(Finetune, ZerosOfPrunedWeightsStay) {
  for (const bool low_rank : {false, true}) {
    import::LanguageModel model = test::tiny_model(test::tiny_config());
    graph::Value& pruned = model.graph.value(*model.graph.find(kDown));
    at::Tensor w = exec::dense_weight(*pruned.weight).clone();
    w = w * (w > 0);
    pruned.weight = w;
    pruned.zeros = graph::ZeroPattern{};
    graph::Graph trained = model.graph;
    std::vector<Adapter> adapters;
    if (low_rank) adapters = add_adapters(trained, {});
    Trainer trainer(trained, adam(true),
                    low_rank ? adapter_parameters(trained, adapters) : find_parameters(trained));
    for (int i = 0; i < 5; ++i) trainer.train_on(text_batch());
    trainer.store();
    if (low_rank) merge_adapters(trained, adapters, model.graph);
    const at::Tensor after = weight(low_rank ? model.graph : trained, kDown);
    EXPECT_TRUE(after.masked_select(w.eq(0)).eq(0).all().item<bool>());
    EXPECT_FALSE(at::equal(after, w));
  }
}

}  // namespace
}  // namespace packlight::train
