#include "prune/pattern.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "error_code.h"

namespace packlight::prune {
namespace {

at::Tensor bools(std::initializer_list<std::initializer_list<int>> rows) {
  std::vector<at::Tensor> out;
  for (const auto& row : rows)
    out.push_back(at::tensor(std::vector<int64_t>(row.begin(), row.end())));
  return at::stack(out).to(at::kBool);
}

TEST(Pattern, IsReadAndWritten) {
  EXPECT_FALSE(graph::parse_zero_pattern("unstructured").is_structured());
  EXPECT_EQ(graph::parse_zero_pattern("2:4"), (Pattern{2, 4}));
  EXPECT_EQ(graph::parse_zero_pattern("1:4").ratio(), 0.75);
  for (const char* text : {"unstructured", "2:4", "4:8", "3:5"})
    EXPECT_EQ(graph::to_string(graph::parse_zero_pattern(text)), text);
}

TEST(Pattern, RefusesWhatIsNone) {
  for (const char* text : {"", "2", "2:", ":4", "4:2", "4:4", "0:4", "-1:4", "2:4x", "2.0:4",
                           "structured", "2:9999"}) {
    test::expect_error(ErrorCode::kInvalidArgument, {std::string("'") + text + "'"},
                       [&] { graph::parse_zero_pattern(text); });
  }
}

TEST(KeepMask, RemovesTheLowest) {
  const at::Tensor scores =
      at::tensor({5.0f, 1.0f, 4.0f, 2.0f, 9.0f, 3.0f, 8.0f, 7.0f}).view({2, 4});
  EXPECT_TRUE(
      keep_mask(scores, {}, 0.5, Scope::kMatrix).equal(bools({{1, 0, 0, 0}, {1, 0, 1, 1}})));
  EXPECT_TRUE(keep_mask(scores, {}, 0.5, Scope::kRow).equal(bools({{1, 0, 1, 0}, {1, 0, 1, 0}})));
}

TEST(KeepMask, KeepsTheLaterOfEqualScores) {
  const at::Tensor scores = at::ones({2, 4});
  EXPECT_TRUE(
      keep_mask(scores, {}, 0.375, Scope::kMatrix).equal(bools({{0, 0, 0, 1}, {1, 1, 1, 1}})));
  EXPECT_TRUE(
      keep_mask(scores, {2, 4}, 0, Scope::kMatrix).equal(bools({{0, 0, 1, 1}, {0, 0, 1, 1}})));
}

TEST(KeepMask, RatioIsExact) {
  const at::Tensor scores = at::rand({7, 13});
  for (const double ratio : {0.0, 0.1, 0.25, 0.5, 0.71, 0.99, 1.0}) {
    for (const Scope scope : {Scope::kRow, Scope::kMatrix}) {
      const at::Tensor kept = keep_mask(scores, {}, ratio, scope);
      EXPECT_EQ(kept.logical_not().sum().item<int64_t>(), std::llround(ratio * 91)) << ratio;
      const at::Tensor gone = kept.logical_not().sum(1).to(at::kFloat);
      if (scope == Scope::kRow) EXPECT_LE((gone.max() - gone.min()).item<float>(), 1) << ratio;
    }
  }
}

TEST(KeepMask, NOfEveryMStay) {
  const at::Tensor scores = at::rand({6, 40});
  for (const Pattern pattern : {Pattern{2, 4}, Pattern{4, 8}, Pattern{1, 5}}) {
    const at::Tensor groups = keep_mask(scores, pattern, 0, Scope::kRow).view({6, -1, pattern.of});
    EXPECT_TRUE(groups.sum(2).eq(pattern.keep).all().item<bool>());
    const at::Tensor values = scores.view({6, -1, pattern.of});
    const at::Tensor least_kept = values.masked_fill(groups.logical_not(), 2).amin(2);
    EXPECT_TRUE(least_kept.ge(values.masked_fill(groups, -1).amax(2)).all().item<bool>());
  }
}

}  // namespace
}  // namespace packlight::prune
