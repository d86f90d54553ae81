#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include "eval/logit_source.h"
#include "eval/perplexity.h"
#include "eval/verify.h"
#include "exec/executor.h"
#include "packlight/error.h"
#include "tiny_package.h"

namespace packlight::eval {
namespace {

using codec::DType;
using text::TokenId;

const io::WeightFormat kInt4{DType::kTileInt4, 32, true, false};
const io::WeightFormat kInt8{DType::kTileInt8, 0, true, false};
const io::WeightFormat kW4A8{DType::kTileInt4, 32, true, true};

std::vector<TokenId> tokens(int64_t count) {
  std::vector<TokenId> out;
  for (int64_t i = 0; i < count; ++i) out.push_back(static_cast<TokenId>(i * 37 % 100));
  return out;
}

std::vector<float> row(std::span<const float> logits, int64_t index, int64_t vocab) {
  return {logits.begin() + index * vocab, logits.begin() + (index + 1) * vocab};
}

class Sources : public ::testing::Test {
 protected:
  void load(const io::WeightFormat& format) {
    exec::initialise(1);
    file_ = std::make_unique<TinyPackage>(format);
    package_ = std::make_shared<const io::Package>(io::Package::open(file_->path()));
    model_ = std::make_unique<import::LanguageModel>(import::load_language_model(file_->path()));
  }
  std::unique_ptr<TinyPackage> file_;
  std::shared_ptr<const io::Package> package_;
  std::unique_ptr<import::LanguageModel> model_;
};

TEST_F(Sources, GraphRowsEqualTheWholeGraphsLogits) {
  load(kInt8);
  const std::vector<TokenId> windows = tokens(24);
  exec::Executor executor(model_->graph);
  at::Tensor ids = at::empty({1, 12}, at::kLong);
  for (int i = 0; i < 12; ++i) ids.data_ptr<int64_t>()[i] = windows[12 + i];
  const at::Tensor whole =
      executor.run({{"input_ids", ids}, {"position_ids", at::arange(12, at::kLong).unsqueeze(0)}}).at("logits");
  for (const uint64_t cache : {uint64_t{1} << 40, uint64_t{0}}) {
    const auto source = graph_source(*model_, cache);
    EXPECT_EQ(source->windows_per_pass() > 1, cache == 0);
    source->begin(windows, 12, 6);
    source->rows(0, 6, 11);
    for (int64_t position : {6, 8}) {
      const std::span<const float> got = source->rows(1, position, position + 2);
      ASSERT_EQ(got.size(), 200);
      for (int64_t i = 0; i < 200; ++i) {
        // The same sums in another blocking: K = 96 terms of a hidden state of size about 1, logits of size about 10.
        EXPECT_NEAR(got[i], whole[0][position + i / 100][i % 100].item<float>(), 96 * 0x1p-23 * 10);
      }
    }
  }
}

TEST_F(Sources, PackageRowsDoNotDependOnHowTheyAreAskedFor) {
  load(kInt4);
  const std::vector<TokenId> windows = tokens(48);
  const auto source = package_source(package_, 24, 1);
  source->begin(windows, 24, 12);
  std::vector<std::vector<float>> once, pieces;
  for (int64_t w : {0, 1}) {
    const std::span<const float> rows = source->rows(w, 12, 23);
    for (int64_t i = 0; i < 11; ++i) once.push_back(row(rows, i, 100));
  }
  source->begin(windows, 24, 12);
  for (int64_t w : {0, 1}) {
    for (int64_t p = 12; p < 23; ++p) pieces.push_back(row(source->rows(w, p, p + 1), 0, 100));
  }
  for (size_t i = 0; i < once.size(); ++i) {
    for (size_t c = 0; c < 100; ++c) EXPECT_NEAR(once[i][c], pieces[i][c], 1e-3) << i << " " << c;
  }
}

TEST_F(Sources, PackageAgainstItsOwnGraphDivergesByRoundingOnly) {
  load(kInt8);
  const auto runtime = package_source(package_, 64, 1);
  const auto graph = graph_source(*model_, uint64_t{1} << 40);
  const PerplexityReport r = measure_perplexity(*runtime, graph.get(), tokens(128), {.context = 64, .threads = 1});
  // Keys and values in F16 change logits by about 2^-11 of their spread of 10; KL is half the square of that.
  EXPECT_LT(r.kl_divergence->value, 0.5 * (10 * 0x1p-11) * (10 * 0x1p-11) * 4);
  EXPECT_GT(r.kl_divergence->value, -1e-9);
  EXPECT_GT(r.top1_agreement->value, 0.95);
}

TEST_F(Sources, RuntimeAgreesWithTheDecodedGraph) {
  for (const io::WeightFormat& format : {kInt4, kInt8, kW4A8}) {
    load(format);
    const LogitCheck check = check_logits(package_, *model_, tokens(128), 1);
    EXPECT_TRUE(check.passed()) << io::to_string(format) << ": " << check.difference << " > " << check.bound;
    EXPECT_GT(check.difference, 0);
    EXPECT_EQ(check.tokens, 128);
  }
}

TEST_F(Sources, ADamagedLayerIsFound) {
  for (const io::WeightFormat& format : {kInt4, kInt8, kW4A8}) {
    load(format);
    // One layer's projection off by a few percent: what a wrong scale of some groups would do. Rounding activations to INT8
    // changes this network by about as much, so there the damage is larger.
    const graph::ValueId id = *model_->graph.find("model.layers.1.mlp.down_proj.weight");
    graph::Value& value = model_->graph.value(id);
    value.weight = exec::dense_weight(*value.weight) * (format.int8_activations ? 1.5 : 1.05);
    const LogitCheck check = check_logits(package_, *model_, tokens(128), 1);
    EXPECT_FALSE(check.passed()) << io::to_string(format) << ": " << check.difference << " <= " << check.bound;
  }
}

TEST_F(Sources, TokensToCheckWithAreChecked) {
  load(kInt4);
  EXPECT_THROW(check_logits(package_, *model_, {}, 1), Error);
  EXPECT_THROW(check_logits(package_, *model_, tokens(129), 1), Error);
  EXPECT_THROW(check_logits(package_, *model_, std::vector<TokenId>{100}, 1), Error);
  EXPECT_THROW(check_logits(package_, *model_, std::vector<TokenId>{-1}, 1), Error);
}

TEST(VerificationTokens, WithoutATokenizerTheyAreInTheVocabulary) {
  const std::vector<TokenId> ids = verification_tokens(TinyPackage::config(), nullptr);
  EXPECT_EQ(ids.size(), 128);
  for (const TokenId id : ids) EXPECT_TRUE(id >= 0 && id < 100);
}

}  // namespace
}  // namespace packlight::eval
