#include "calib/input_statistics.h"

#include <gtest/gtest.h>

#include <ATen/ops/arange.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>

#include "error_code.h"
#include "tiny_language_model.h"

namespace packlight::calib {
namespace {

CalibrationTokens tokens(int64_t count, int64_t window) {
  CalibrationTokens out;
  out.window = window;
  for (int64_t i = 0; i < count; ++i) out.ids.push_back(static_cast<text::TokenId>((i * 7 + i / 3) % 40));
  return out;
}

std::map<std::string, std::vector<double>> run(const import::LanguageModel& model, const CalibrationTokens& text,
                                               StreamOptions options) {
  InputStatistics statistics(model.graph, text, options);
  std::map<std::string, std::vector<double>> out;
  for (size_t b = 0; b < statistics.blocks(); ++b) {
    for (const auto& [id, means] : statistics.run_block(b)) out[model.graph.value(id).name] = means;
  }
  return out;
}

// The same from one run of the whole graph per window.
std::map<std::string, std::vector<double>> whole(const import::LanguageModel& model, const CalibrationTokens& text) {
  exec::Executor executor(model.graph);
  std::map<std::string, std::vector<double>> sums;
  const auto total = static_cast<int64_t>(text.ids.size());
  for (int64_t first = 0; first < total; first += text.window) {
    const int64_t n = std::min(text.window, total - first);
    at::Tensor ids = at::empty({1, n}, at::kLong);
    std::copy_n(text.ids.begin() + first, n, ids.data_ptr<int64_t>());
    executor.run({{"input_ids", ids}, {"position_ids", at::arange(n, at::kLong).unsqueeze(0)}},
                 [&](const graph::Node& node, std::span<const at::Tensor> inputs) {
                   const auto weight = graph::linear_weight(model.graph, node);
                   if (!weight) return;
                   const at::Tensor rows = inputs[0].reshape({-1, inputs[0].size(-1)}).contiguous();
                   auto& sum = sums[model.graph.value(weight->value).name];
                   sum.resize(rows.size(1));
                   const float* x = rows.data_ptr<float>();
                   for (int64_t i = 0; i < rows.numel(); ++i) sum[i % rows.size(1)] += double{x[i]} * x[i] / total;
                 });
  }
  return sums;
}

TEST(InputStatistics, EqualThoseOfTheWholeGraph) {
  for (const bool tied : {true, false}) {
    const auto model = test::tiny_model(test::tiny_config("llama", tied));
    const CalibrationTokens text = tokens(50, 16);  // three windows and a shorter one
    const test::TestFolder folder;
    const auto got = run(model, text, {uint64_t{1} << 30, folder.path(), 32});
    const auto want = whole(model, text);
    ASSERT_EQ(got.size(), want.size());
    EXPECT_EQ(got.count(tied ? "model.embed_tokens.weight" : "lm_head.weight"), 1u);
    for (const auto& [name, means] : want) {
      ASSERT_EQ(got.at(name).size(), means.size()) << name;
      // Windows run together or alone differ by float rounding through 2 layers; 1e-5 is some 100 eps.
      for (size_t c = 0; c < means.size(); ++c) EXPECT_NEAR(got.at(name)[c], means[c], 1e-5 * means[c]) << name << " " << c;
    }
  }
}

TEST(InputStatistics, SpillingChangesNothingAndLeavesNoFile) {
  const auto model = test::tiny_model(test::tiny_config());
  const CalibrationTokens text = tokens(100, 16);
  const test::TestFolder folder;
  const auto kept = run(model, text, {uint64_t{1} << 30, folder.path(), 32});
  EXPECT_EQ(run(model, text, {0, folder.path(), 32}), kept);
  EXPECT_EQ(run(model, text, {20000, folder.path(), 32}), kept);  // some batches in memory, some not
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(InputStatistics, SpillFolderThatIsMissingIsAnError) {
  const auto model = test::tiny_model(test::tiny_config());
  const CalibrationTokens text = tokens(20, 16);
  test::expect_error(ErrorCode::kIo, {"/nonexistent"}, [&] { run(model, text, {0, "/nonexistent", 32}); });
}

TEST(InputStatistics, ActivationsThatAreNotFiniteNameTheWeight) {
  auto model = test::tiny_model(test::tiny_config());
  graph::Value& norm = model.graph.value(*model.graph.find("model.layers.1.input_layernorm.weight"));
  norm.weight = at::full({64}, INFINITY, at::kFloat);
  const CalibrationTokens text = tokens(20, 16);
  const test::TestFolder folder;
  test::expect_error(ErrorCode::kInvalidArgument, {"model.layers.1.self_attn"},
                     [&] { run(model, text, {1 << 20, folder.path(), 32}); });
}

TEST(ActivationStore, GivesBackWhatItWasGiven) {
  const test::TestFolder folder;
  for (const uint64_t limit : {uint64_t{0}, uint64_t{1} << 20}) {
    ActivationStore store(2, limit, folder.path());
    for (int round = 0; round < 3; ++round) {  // sizes that grow and shrink reuse and enlarge a batch's place
      for (size_t b = 0; b < 2; ++b) {
        store.put(b, {{1, at::arange(10 + 30 * (round % 2), at::kLong)}, {7, at::full({3, 2}, b + 0.5, at::kFloat)}});
      }
      for (size_t b = 0; b < 2; ++b) {
        const exec::Values values = store.take(b);
        ASSERT_EQ(values.size(), 2u);
        EXPECT_TRUE(values.at(1).equal(at::arange(10 + 30 * (round % 2), at::kLong)));
        EXPECT_TRUE(values.at(7).equal(at::full({3, 2}, b + 0.5, at::kFloat)));
      }
    }
    EXPECT_EQ(store.spilled_bytes() > 0, limit == 0);
  }
}

}  // namespace
}  // namespace packlight::calib
