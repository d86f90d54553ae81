#include "prune/remove_blocks.h"

#include <gtest/gtest.h>

#include "calib/token_stream.h"
#include "error_code.h"
#include "exec/executor.h"
#include "tiny_language_model.h"

namespace packlight::prune {
namespace {

// Four blocks, of which one adds nothing to the hidden state.
import::LanguageModel model_with_an_idle_block(int64_t idle){
    io::DecoderConfig config = test::tiny_config();
for (auto* sizes : {&config.heads, &config.kv_heads, &config.ffn_size})
  sizes->resize(4, sizes->front());
import::LanguageModel model = test::tiny_model(config);
for (const char* name : {".self_attn.o_proj.weight", ".mlp.down_proj.weight"}) {
  graph::Value& value =
      model.graph.value(*model.graph.find("model.layers." + std::to_string(idle) + name));
  value.weight = at::zeros_like(exec::dense_weight(*value.weight));
}
return model;
}  // namespace

std::vector<exec::Values> batches(const import::LanguageModel& model) {
  calib::CalibrationTokens tokens;
  tokens.window = 16;
  for (int i = 0; i < 64; ++i) tokens.ids.push_back(i * 7 % 37);
  return calib::token_values(model.graph, tokens, 32);
}

at::Tensor logits(const import::LanguageModel& model) {
  const at::Tensor ids = at::remainder(at::arange(16, at::kLong) * 5, 37).unsqueeze(0);
  return exec::Executor(model.graph)
      .run({{"input_ids", ids}, {"position_ids", at::arange(16, at::kLong).unsqueeze(0)}})
      .at("logits");
}

TEST(RemoveBlocks, TheOneThatDoesNothingGoesAndNothingChanges) {
  for (const int64_t idle : {0, 2, 3}) {
    import::LanguageModel model = model_with_an_idle_block(idle);
    const at::Tensor before = logits(model);
    const auto removed =
        remove_blocks(model, 1, BlockCriterion::kInfluence, batches(model), 0, true);
    ASSERT_EQ(removed.size(), 1u);
    EXPECT_EQ(removed[0].layer, idle);
    EXPECT_NEAR(removed[0].score, 0, 1e-6);
    EXPECT_EQ(model.config.layers(), 3);
    EXPECT_TRUE(at::equal(logits(model), before));
  }
}

TEST(RemoveBlocks, ByPerplexityTheNextIsChosenWithoutTheOnesBefore) {
  import::LanguageModel model = model_with_an_idle_block(1);
  const import::LanguageModel whole = model;
  const auto data = batches(model);
  const auto removed = remove_blocks(model, 2, BlockCriterion::kPerplexity, data, 0, true);
  ASSERT_EQ(removed.size(), 2u);
  EXPECT_NE(removed[0].layer, removed[1].layer);
  EXPECT_EQ(model.config.layers(), 2);
  EXPECT_TRUE(at::equal(logits(model),
                        logits(without_blocks(whole, {removed[0].layer, removed[1].layer}))));
}

TEST(RemoveBlocks, ImpossibleNumbersAreRefused) {
  import::LanguageModel model = model_with_an_idle_block(1);
  for (const int64_t count : {0, -1, 4, 5})
    test::expect_error(ErrorCode::kInvalidArgument, {std::to_string(count), "of 4 blocks"},
                       [&] { remove_blocks(model, count, BlockCriterion::kRandom, {}, 0, true); });
  test::expect_error(ErrorCode::kInvalidArgument, {"no layer 9"},
                     [&] { without_blocks(model, {9}); });
  EXPECT_EQ(model.config.layers(), 4);
}

}  // namespace packlight::prune
}  // namespace packlight::prune
