#include "train/trainer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <csignal>
#include <cstdlib>

#include "base/fail.h"
#include "base/interrupt.h"
#include "exec/executor.h"
#include "graph/error_of.h"
#include "temp_dir.h"
#include "train/architectures.h"

namespace packlight::train {
namespace {

using test::contains;
using test::error_of;

// Two classes of 4 x 4 pictures that a linear layer can tell apart: bright on the left, bright on
// the right.
Batch pictures(int64_t count, int64_t seed) {
  at::manual_seed(seed);
  const at::Tensor labels = at::randint(2, {count}, at::kLong);
  at::Tensor x = at::randn({count, 1, 4, 4}) * 0.5;
  x = x + at::where(labels.reshape({-1, 1, 1, 1}).to(at::kBool), at::tensor({0.f, 0.f, 1.f, 1.f}),
                    at::tensor({1.f, 1.f, 0.f, 0.f}));
  return {{{"input", x}}, {labels, {}}};
}

ArchitectureOptions small() {
  ArchitectureOptions options;
  options.height = options.width = 4;
  options.classes = 2;
  options.hidden = {8};
  return options;
}

TrainOptions sgd(int64_t steps) {
  TrainOptions options;
  options.schedule.peak = 0.1;
  options.schedule.total_steps = steps;
  return options;
}

double accuracy(const graph::Graph& graph, const Batch& batch) {
  exec::Executor executor(graph);
  const at::Tensor logits = executor.run(batch.inputs).at("logits");
  return logits.argmax(1).eq(batch.target.values).to(at::kFloat).mean().item<double>();
}

TEST(TrainerTest, LearnsWhatALinearLayerCanTellApart) {
  graph::Graph graph = create_architecture("mlp", small());
  Trainer trainer(graph, sgd(60));
  for (int i = 0; i < 60; ++i) trainer.train_on(pictures(32, i));
  const Batch unseen = pictures(500, 1000);
  const double before = accuracy(graph, unseen);
  trainer.store();
  // The classes' means lie sqrt(16) * 0.5 / 0.5 = 4 standard deviations apart: 97.7 % is what the
  // best classifier reaches.
  EXPECT_LT(before, 0.9);
  EXPECT_GT(accuracy(graph, unseen), 0.93);
}

std::vector<at::Tensor> weights_of(const graph::Graph& graph) {
  std::vector<at::Tensor> weights;
  for (const graph::Value& value : graph.values()) {
    if (value.weight) weights.push_back(exec::dense_weight(*value.weight).clone());
  }
  return weights;
}

void expect_equal_bits(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(at::equal(a[i], b[i])) << "weight " << i;
}

class ResumeTest : public ::testing::TestWithParam<OptimizerOptions::Kind> {};

TEST_P(ResumeTest, AKilledRunGoesOnWithTheSameBits) {
  TrainOptions options = sgd(6);
  options.optimizer.kind = GetParam();
  options.schedule.peak = 0.01;
  options.accumulate = 2;
  options.ema_decay = 0.5;
  const test::TempDir folder;
  const auto path = folder.path() / "checkpoint.safetensors";
  graph::Graph whole = create_architecture("resnet8", [] {
    auto o = small();
    o.height = o.width = 8;
    return o;
  }());
  graph::Graph first = whole, second = whole;
  const auto batch = [](int i) {
    Batch b = pictures(4, i);
    b.inputs["input"] = at::upsample_nearest2d(b.inputs["input"], {8, 8});
    return b;
  };
  double mean_loss = 0;
  {
    Trainer trainer(whole, options);
    for (int i = 0; i < 12; ++i) mean_loss += trainer.train_on(batch(i)) / 12;
    trainer.store();
  }
  {
    Trainer trainer(first, options);
    for (int i = 0; i < 5; ++i) trainer.train_on(batch(i));  // in the middle of an accumulation
    save_checkpoint(path, trainer, "test");
  }
  Trainer trainer(second, options);
  const Checkpoint checkpoint = load_checkpoint(path);
  EXPECT_EQ(checkpoint.identity, "test");
  trainer.restore(checkpoint.state);
  EXPECT_EQ(trainer.batches_seen(), 5);
  for (int i = 5; i < 12; ++i) trainer.train_on(batch(i));
  trainer.store();
  expect_equal_bits(weights_of(whole), weights_of(second));
  EXPECT_NEAR(trainer.mean_loss(), mean_loss, 1e-12);
}
INSTANTIATE_TEST_SUITE_P(Optimizers, ResumeTest,
                         ::testing::Values(OptimizerOptions::Kind::kSgd,
                                           OptimizerOptions::Kind::kAdamW));

// In a process of its own: the interrupt's flag is never taken back.
TEST(TrainerTest, AnInterruptWaitsForTheWholeBatch) {
  const auto stands_after_a_whole_batch = [] {
    graph::Graph graph = create_architecture("mlp", small());
    Trainer trainer(graph, sgd(2));
    base::install_interrupt_handler();
    trainer.watch([](const graph::Node&, std::span<const at::Tensor>) {
      if (!base::interrupted()) std::raise(SIGINT);
    });
    trainer.train_on(pictures(4, 0));
    const bool whole = trainer.batches_seen() == 1 && base::interrupted();
    try {
      trainer.train_on(pictures(4, 1));
    } catch (const Error& error) {
      return whole && error.code() == ErrorCode::kInterrupted && trainer.batches_seen() == 1;
    }
    return false;
  };
  EXPECT_EXIT(std::exit(stands_after_a_whole_batch() ? 0 : 1), ::testing::ExitedWithCode(0), "");
}

TEST(TrainerTest, BatchNormalizationKeepsRunningStatisticsUnlessFrozen) {
  for (const bool frozen : {false, true}) {
    graph::Graph graph = create_architecture("resnet8", [] {
      auto o = small();
      o.height = o.width = 8;
      return o;
    }());
    TrainOptions options = sgd(1);
    options.freeze_bn = frozen;
    Trainer trainer(graph, options);
    Batch batch = pictures(16, 1);
    batch.inputs["input"] = at::upsample_nearest2d(batch.inputs["input"], {8, 8});
    trainer.train_on(batch);
    trainer.store();
    const auto& mean = std::get<at::Tensor>(*graph.value(*graph.find("bn1.running_mean")).weight);
    EXPECT_EQ(mean.abs().max().item<float>() == 0, frozen);
  }
}

TEST(TrainerTest, FrozenBatchNormalizationTrainsTheNetworkThatIsEvaluated) {
  ArchitectureOptions eight = small();
  eight.height = eight.width = 8;
  graph::Graph graph = create_architecture("resnet8", eight);
  Batch batch = pictures(4, 1);
  batch.inputs["input"] = at::upsample_nearest2d(batch.inputs["input"], {8, 8});
  const at::Tensor logits = exec::Executor(graph).run(batch.inputs).at("logits");
  TrainOptions options = sgd(1);
  options.freeze_bn = true;
  EXPECT_NEAR(Trainer(graph, options).train_on(batch),
              loss(options.loss, logits, batch.target).item<double>(), 1e-5);
}

TEST(TrainerTest, AShortRunsAverageForgetsWhereItBegan) {
  graph::Graph graph = create_architecture("mlp", small());
  TrainOptions options = sgd(60);
  options.ema_decay = 0.9999;
  Trainer trainer(graph, options);
  for (int i = 0; i < 60; ++i) trainer.train_on(pictures(32, i));
  trainer.store();
  EXPECT_GT(accuracy(graph, pictures(500, 1000)), 0.93);
}

TEST(TrainerTest, RunningStatisticsAreAveragedWithTheWeights) {
  ArchitectureOptions eight = small();
  eight.height = eight.width = 8;
  graph::Graph averaged = create_architecture("resnet8", eight), last = averaged;
  Batch batch = pictures(4, 1);
  batch.inputs["input"] = at::upsample_nearest2d(batch.inputs["input"], {8, 8});
  for (graph::Graph* graph : {&averaged, &last}) {
    TrainOptions options = sgd(1);
    options.ema_decay = graph == &averaged ? 0.05 : 0;
    Trainer trainer(*graph, options);
    trainer.train_on(batch);
    trainer.store();
  }
  const auto mean = [](const graph::Graph& graph) {
    return std::get<at::Tensor>(*graph.value(*graph.find("bn1.running_mean")).weight);
  };
  // They begin at 0; the first step's decay is 0.05.
  EXPECT_TRUE(at::allclose(mean(averaged), 0.95 * mean(last), 1e-5, 1e-8));
  EXPECT_GT(mean(last).abs().max().item<float>(), 0);
}

TEST(TrainerTest, LimitsTheNormOfGradients) {
  TrainOptions options = sgd(1);
  options.clip_norm = 1e-3;
  options.optimizer.momentum = 0;
  options.optimizer.weight_decay = 0;
  options.schedule.kind = Schedule::Kind::kConstant;
  graph::Graph graph = create_architecture("mlp", small());
  const auto before = weights_of(graph);
  Trainer trainer(graph, options);
  trainer.train_on(pictures(32, 0));
  trainer.store();
  const auto after = weights_of(graph);
  double squares = 0;
  for (size_t i = 0; i < before.size(); ++i)
    squares += (after[i] - before[i]).pow(2).sum().item<double>();
  // The change is the gradient times the learning rate; differences of weights near 1 are rounded
  // to 2^-24.
  EXPECT_NEAR(std::sqrt(squares), 0.1 * 1e-3, 200 * 0x1p-24);
}

TEST(TrainerTest, RefusesWhatCannotBeTrained) {
  graph::Graph graph = create_architecture("mlp", small());
  TrainOptions options = sgd(1);
  Trainer trainer(graph, options);
  Batch wrong = pictures(4, 0);
  wrong.target.values[0] = 2;
  EXPECT_TRUE(
      contains(error_of([&] { trainer.train_on(wrong); }), "label 2 is outside the 2 classes"));
  Batch broken = pictures(4, 0);
  broken.inputs["input"][0][0][0][0] = std::nanf("");
  EXPECT_TRUE(contains(error_of([&] { trainer.train_on(broken); }), "the loss is nan"));
  options.schedule.peak = 0;
  EXPECT_TRUE(contains(error_of([&] { Trainer(graph, options); }),
                       "learning rate is 0; it must be above 0"));
  graph::Graph empty;
  EXPECT_TRUE(contains(error_of([&] { find_parameters(empty); }), "no weights to train"));
}

TEST(ScheduleTest, WarmsUpAndFalls) {
  Schedule s;
  s.peak = 1;
  s.warmup_steps = 2;
  s.total_steps = 12;
  EXPECT_DOUBLE_EQ(learning_rate(s, 0), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate(s, 2), 1);
  EXPECT_NEAR(learning_rate(s, 7), 0.01 + 0.99 * 0.5, 1e-12);  // half way down the cosine
  s.kind = Schedule::Kind::kStep;
  s.warmup_steps = 0;
  EXPECT_DOUBLE_EQ(learning_rate(s, 3), 1);
  EXPECT_DOUBLE_EQ(learning_rate(s, 4), 0.1);
}

TEST(LossTest, WorkedExamples) {
  const at::Tensor logits =
      at::tensor({0.f, std::log(3.f)}).reshape({1, 2});  // probabilities 1/4, 3/4
  LossOptions options;
  EXPECT_NEAR(loss(options, logits, {at::tensor({1}, at::kLong), {}}).item<double>(),
              std::log(4 / 3.0), 1e-6);
  options.label_smoothing = 0.5;  // 3/4 of the weight on the label, 1/4 on the other
  EXPECT_NEAR(loss(options, logits, {at::tensor({1}, at::kLong), {}}).item<double>(),
              0.75 * std::log(4 / 3.0) + 0.25 * std::log(4.0), 1e-6);
  options = {LossKind::kKl};
  EXPECT_NEAR(loss(options, logits, {at::zeros({1, 2}), {}}).item<double>(),
              0.5 * std::log(2.0) + 0.5 * std::log(2 / 3.0), 1e-6);
  options = {LossKind::kMse};
  EXPECT_NEAR(loss(options, at::tensor({1.f, 2.f}), {at::tensor({0.f, 4.f}), {}}).item<double>(),
              2.5, 1e-6);
  // CTC: two steps, classes blank and "a", each 1/2: "a" is said by a-, -a and aa: 3/4.
  options = {LossKind::kCtc};
  EXPECT_NEAR(
      loss(options, at::zeros({1, 2, 2}), {at::tensor({1}, at::kLong), at::tensor({1}, at::kLong)})
          .item<double>(),
      std::log(4 / 3.0), 1e-6);
  EXPECT_TRUE(contains(error_of([] { parse_loss("hinge"); }),
                       "there is no loss 'hinge'; there are cross-entropy, mse, kl, ctc"));
}

TEST(ArchitecturesTest, SizesAreThoseOfThePapers) {
  const auto parameters = [](const char* name, ArchitectureOptions options) {
    const graph::Graph graph = create_architecture(name, options);
    int64_t count = 0;
    for (const Parameter& p : find_parameters(graph))
      count += exec::dense_weight(*graph.value(p.value).weight).numel();
    return count;
  };
  EXPECT_EQ(parameters("lenet5", {}), 61706);  // as counted for the 28 x 28 form with padding 2
  ArchitectureOptions cifar;
  cifar.channels = 3;
  cifar.height = cifar.width = 32;
  // 0.27 M in the paper; 272,474 with projections: 3 + 2 * 9 convolutions, 2 projections, norms,
  // fc.
  EXPECT_NEAR(static_cast<double>(parameters("resnet20", cifar)), 272474, 3000);
  ArchitectureOptions imagenet;
  imagenet.channels = 3;
  imagenet.height = imagenet.width = 224;
  imagenet.classes = 1000;
  EXPECT_NEAR(static_cast<double>(parameters("mobilenet", imagenet)), 4.2e6, 0.05e6);
  const graph::Graph a = create_architecture("lenet5", {}), b = create_architecture("lenet5", {});
  expect_equal_bits(weights_of(a), weights_of(b));
  EXPECT_TRUE(contains(error_of([] { create_architecture("vgg", {}); }),
                       "there are mlp, lenet5, resnet8, resnet20, mobilenet"));
  ArchitectureOptions tiny;
  tiny.height = tiny.width = 2;
  EXPECT_TRUE(
      contains(error_of([&] { create_architecture("lenet5", tiny); }), "too small for lenet5"));
}

}  // namespace
}  // namespace packlight::train
