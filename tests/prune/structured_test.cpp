#include <gtest/gtest.h>

#include <numeric>

#include "deploy/gguf_writer.h"
#include "deploy/hf_writer.h"
#include "error_code.h"
#include "exec/executor.h"
#include "exec/small_net.h"
#include "prune/decoder_sizes.h"
#include "prune/prune_structured.h"
#include "tiny_language_model.h"

namespace packlight::prune {
namespace {

using graph::Coupling;
using graph::ValueId;
using test::noise;
using test::SmallNet;

// x [n, 6] -> a [8, 6] -> Relu -> b [4, 8]; neurons 2 and 5 are the same.
struct TwinNet : SmallNet {
  TwinNet() {
    at::Tensor a = noise({8, 6}, 1);
    a[5] = a[2];
    const ValueId hidden =
        op("Gemm", {input("x", {std::string("n"), 6}), constant(a)}, {{"transB", int64_t{1}}});
    returns({op("Gemm", {op("Relu", {hidden}), constant(noise({4, 8}, 2)), constant(noise({4}, 3))},
                {{"transB", int64_t{1}}})});
  }
  std::vector<exec::Values> batches(int count = 4) const {
    std::vector<exec::Values> result;
    for (int i = 0; i < count; ++i) result.push_back({{graph.inputs[0], noise({64, 6}, 10 + i)}});
    return result;
  }
  at::Tensor run(const graph::Graph& of, const at::Tensor& x) const {
    return exec::Executor(of).run({{"x", x}}).begin()->second;
  }
};

StructuredOptions quiet_options() {
  StructuredOptions options;
  options.quiet = true;
  return options;
}

TEST(PruneStructured, OneOfTwoTwinsGoesFirstAndTheOtherMakesUpForIt) {
  TwinNet net;
  const graph::Graph original = net.graph;
  StructuredOptions options = quiet_options();
  options.selection.target.parameters =
      graph::total_cost(original).parameters - 10;  // a neuron has 6 + 4
  options.refitting.damping = 1e-9;
  const StructuredReport report =
      prune_structured(net.graph, *reconstruction_error(1e-9), net.batches(), options);
  ASSERT_EQ(report.groups.size(), 1u);
  EXPECT_EQ(report.groups[0].kept, 7);
  EXPECT_EQ(report.after.parameters, graph::total_cost(net.graph).parameters);
  const at::Tensor x = noise({32, 6}, 99), want = net.run(original, x);
  EXPECT_TRUE(test::close(net.run(net.graph, x), want, 1e-4 * want.abs().max().item<double>()));
}

TEST(PruneStructured, RefittingLeavesLessErrorThanTheWeightsThatWereThere) {
  for (const std::string& criterion : unit_criterion_names()) {
    if (criterion == "bn") continue;
    double error[2];
    for (const bool refit : {false, true}) {
      TwinNet net;
      const graph::Graph original = net.graph;
      StructuredOptions options = quiet_options();
      options.selection.target.ratio = 0.5;
      options.refit = refit;
      prune_structured(net.graph, *make_unit_criterion(criterion, 1), net.batches(), options);
      const at::Tensor x = noise({256, 6}, 99);
      error[refit] = (net.run(net.graph, x) - net.run(original, x)).square().mean().item<double>();
    }
    EXPECT_LT(error[1], 0.7 * error[0]) << criterion;
  }
}

// Of two neurons that weigh as much, one reaches the output through a factor of 0.01.
TEST(PruneStructured, GradientsSeeWhatComesBehindTheReaders) {
  for (const char* criterion : {"kfac", "fisher", "obs"}) {
    SmallNet net;
    at::Tensor a = noise({4, 6}, 1);
    const ValueId hidden = net.op("Relu", {net.op("MatMul", {net.input("x", {std::string("n"), 6}),
                                                             net.constant(a.t().contiguous())})});
    // Outputs 0 and 1 read neurons 0 and 1, outputs 2 and 3 neurons 2 and 3.
    at::Tensor b = at::eye(4), scale = at::tensor({1.0F, 1.0F, 0.01F, 0.01F});
    net.returns(
        {net.op("Mul", {net.op("MatMul", {hidden, net.constant(b)}), net.constant(scale)})});
    StructuredOptions options = quiet_options();
    options.selection.target.parameters = graph::total_cost(net.graph).parameters - 20;
    options.refit = false;
    std::vector<exec::Values> batches;
    for (int i = 0; i < 4; ++i) batches.push_back({{net.graph.inputs[0], noise({64, 6}, 10 + i)}});
    const Coupling coupling(net.graph);
    const graph::Graph original = net.graph;
    prune_structured(net.graph, *make_unit_criterion(criterion, 1), batches, options);
    const at::Tensor left = exec::dense_weight(*net.graph.value(*net.graph.find("w0")).weight);
    const bool kept_what_matters = at::equal(left, a.t().narrow(1, 0, 2));
    EXPECT_EQ(kept_what_matters, std::string_view(criterion) != "obs") << criterion;
  }
}

TEST(PruneStructured, WishesThatCannotBeMetAreRefusedAndNothingChanges) {
  const auto refused = [](std::initializer_list<std::string> parts,
                          const std::function<void(StructuredOptions&)>& edit, bool data = true) {
    TwinNet net;
    StructuredOptions options = quiet_options();
    options.selection.target.ratio = 0.5;
    edit(options);
    test::expect_error(ErrorCode::kInvalidArgument, parts, [&] {
      prune_structured(net.graph, *make_unit_criterion("obs", 1),
                       data ? net.batches() : std::vector<exec::Values>(), options);
    });
    EXPECT_EQ(graph::total_cost(net.graph).parameters, 8 * 6 + 4 * 8 + 4);
  };
  refused({"cannot be reached", "5"}, [](auto& o) { o.selection.target = {{}, 5, {}, {}}; });
  refused({"met without pruning"}, [](auto& o) { o.selection.target = {{}, 1000, {}, {}}; });
  refused({"'nothing*'"}, [](auto& o) { o.protect = {"nothing*"}; });
  refused({"no group"}, [](auto& o) { o.protect = {"*"}; });
  refused({"no group"}, [](auto& o) { o.kinds = {graph::GroupKind::kHeads}; });
  refused(
      {"calibration data"}, [](auto&) {}, false);
}

TEST(PruneStructured, WhatIsLeftOfAGroupIsAMultiple) {
  TwinNet net;
  StructuredOptions options = quiet_options();
  options.selection.target.ratio = 0.3;
  options.selection.multiple = 4;
  const StructuredReport report =
      prune_structured(net.graph, *weight_norm(1), net.batches(), options);
  EXPECT_EQ(report.groups[0].kept, 4);
}

TEST(PruneStructured, AHeadThatIsTheEmbeddingIsNotFitted) {
  import::LanguageModel model = test::tiny_model(test::tiny_config());
  const auto table = [&] {
    return exec::dense_weight(
        *model.graph.value(*model.graph.find("model.embed_tokens.weight")).weight);
  };
  const at::Tensor before = table().clone();
  const at::Tensor ids = at::remainder(at::arange(64, at::kLong) * 11, 40).reshape({2, 32});
  const at::Tensor positions = at::arange(32, at::kLong).expand({2, 32}).contiguous();
  StructuredOptions options = quiet_options();
  options.selection.target.ratio = 0.3;
  prune_structured(model.graph, *make_unit_criterion("obs", 1),
                   {{{model.graph.inputs[0], ids}, {model.graph.inputs[1], positions}}}, options);
  EXPECT_TRUE(at::equal(table(), before));
}

TEST(PruneStructured, LanguageModelsLoseNeuronsAndHeadsAndTheirFilesSaySo) {
  import::LanguageModel model = test::tiny_model(test::tiny_config());
  std::vector<exec::Values> batches(1);
  const at::Tensor ids = at::remainder(at::arange(64, at::kLong) * 11, 40).reshape({2, 32});
  batches[0] = {{model.graph.inputs[0], ids},
                {model.graph.inputs[1], at::arange(32, at::kLong).expand({2, 32}).contiguous()}};
  StructuredOptions options = quiet_options();
  options.selection.target.ratio = 0.4;
  options.selection.multiple = 1;
  prune_structured(model.graph, *make_unit_criterion("obs", 1), batches, options);
  follow_weights(model);
  EXPECT_LT(std::accumulate(model.config.ffn_size.begin(), model.config.ffn_size.end(), int64_t{0}),
            2 * 96);
  const auto logits = [&](const import::LanguageModel& of) {
    return exec::Executor(of.graph)
        .run({{"input_ids", ids},
              {"position_ids", at::arange(32, at::kLong).expand({2, 32}).contiguous()}})
        .at("logits");
  };
  const at::Tensor want = logits(model);
  const test::TestFolder folder;
  deploy::write_gguf_model(model, folder / "small.gguf");
  deploy::write_hf_folder(model, folder / "small");
  for (const char* name : {"small.gguf", "small"}) {
    const import::LanguageModel again = import::load_language_model(folder / name);
    EXPECT_EQ(again.config.ffn_size, model.config.ffn_size) << name;
    EXPECT_EQ(again.config.heads, model.config.heads) << name;
    EXPECT_TRUE(at::equal(logits(again), want)) << name;
  }
}

}  // namespace
}  // namespace packlight::prune
