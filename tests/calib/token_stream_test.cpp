#include "calib/token_stream.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "calib/second_moment.h"
#include "error_code.h"
#include "tiny_language_model.h"

namespace packlight::calib {
namespace {

CalibrationTokens stream_tokens() {
  CalibrationTokens out;
  out.window = 16;
  for (int i = 0; i < 40; ++i) out.ids.push_back(i * 7 % 40);  // two windows and a shorter one
  return out;
}

graph::NodeId node_count(const graph::Graph& graph) { return static_cast<graph::NodeId>(graph.nodes().size()); }

// The logits of every batch, stopping before each of `stops` with all batches.
std::vector<at::Tensor> logits_by_way_of(const import::LanguageModel& model, const CalibrationTokens& text,
                                         std::vector<graph::NodeId> stops, uint64_t max_ram_bytes,
                                         const std::filesystem::path& folder) {
  TokenStream stream(model.graph, text, {max_ram_bytes, folder, 16});
  stops.push_back(node_count(model.graph));
  std::vector<at::Tensor> out(stream.batches());
  for (const graph::NodeId stop : stops) {
    for (size_t b = 0; b < stream.batches(); ++b) {
      exec::Values live = stream.run(b, stop);
      if (stop == node_count(model.graph)) out[b] = live.at(model.graph.outputs[0]);
      stream.put(b, std::move(live));
    }
  }
  return out;
}

// Before the weights of layers are turned, where pruning stops: a turned weight that is spilled comes back in another layout, and
// a product of it with another rounding.
std::vector<graph::NodeId> turned_weights(const graph::Graph& graph) {
  std::vector<graph::NodeId> out;
  for (graph::NodeId n = 0; n < node_count(graph); ++n) {
    if (graph.node(n).op == "Transpose") out.push_back(n);
  }
  return out;
}

TEST(TokenStream, StopsChangeNothing) {
  const auto model = test::tiny_model(test::tiny_config());
  const CalibrationTokens text = stream_tokens();
  const test::TestFolder folder;
  const auto whole = logits_by_way_of(model, text, {}, uint64_t{1} << 30, folder.path());
  ASSERT_EQ(whole.size(), 3u);
  EXPECT_EQ(whole[2].sizes(), (at::IntArrayRef{1, 8, 40}));
  for (const uint64_t limit : {uint64_t{0}, uint64_t{1} << 30}) {
    const auto stopped = logits_by_way_of(model, text, turned_weights(model.graph), limit, folder.path());
    for (size_t b = 0; b < 3; ++b) EXPECT_TRUE(stopped[b].equal(whole[b])) << b;
  }
}

TEST(TokenStream, AWeightReplacedBeforeItIsReadTakesEffect) {
  auto model = test::tiny_model(test::tiny_config());
  const CalibrationTokens text = stream_tokens();
  const test::TestFolder folder;
  TokenStream stream(model.graph, text, {uint64_t{1} << 30, folder.path(), 16});
  stream.put(0, stream.run(0, 20));
  const std::string down = "model.layers.1.mlp.down_proj.weight";
  model.graph.value(*model.graph.find(down)).weight = at::full({64, 96}, 0.5, at::kFloat);
  const at::Tensor got = stream.run(0, node_count(model.graph)).at(model.graph.outputs[0]);
  EXPECT_TRUE(got.equal(logits_by_way_of(model, text, {}, uint64_t{1} << 30, folder.path())[0]));
}

TEST(SecondMoment, IsTheMeanOverTokens) {
  SecondMoment moment;
  moment.add(at::tensor({1.0f, 2.0f, 3.0f, 4.0f}).view({1, 2, 2}), at::tensor({5.0f, 6.0f}).view({1, 2, 1}));
  moment.add(at::tensor({-1.0f, 0.5f}).view({1, 2}), at::tensor({4.0f}).view({1, 1}));
  EXPECT_EQ(moment.tokens(), 3);
  const at::Tensor mean = moment.mean("fc");  // (1*5 + 3*6 - 1*4) / 3, (2*5 + 4*6 + 0.5*4) / 3
  EXPECT_TRUE(mean.equal(at::tensor({19.0 / 3, 12.0}, at::kDouble).view({2, 1})));
}

TEST(SecondMoment, NoTokensOrInfiniteOnesAreErrors) {
  SecondMoment moment;
  test::expect_error(ErrorCode::kInvalidArgument, {"'fc1'", "no calibration tokens"}, [&] { moment.mean("fc1"); });
  moment.add(at::full({2, 2}, INFINITY, at::kFloat), at::full({2, 2}, 1.0, at::kFloat));
  test::expect_error(ErrorCode::kInvalidArgument, {"'fc1'", "not finite"}, [&] { moment.mean("fc1"); });
}

}  // namespace
}  // namespace packlight::calib
