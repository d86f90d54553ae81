#include "deploy/row_order.h"

#include <gtest/gtest.h>

#include "error_code.h"

namespace packlight::deploy {
namespace {

std::vector<std::byte> bytes(std::initializer_list<int> values) {
  std::vector<std::byte> out;
  for (const int v : values) out.push_back(static_cast<std::byte>(v));
  return out;
}

TEST(ReorderRows, InterleavesTheHalvesOfEachHead) {
  // Two heads of 4 rows, one byte a row.
  const auto usual = bytes({0, 1, 2, 3, 4, 5, 6, 7}), rotary = bytes({0, 2, 1, 3, 4, 6, 5, 7});
  EXPECT_EQ(reorder_rows(usual, 8, 4, RowOrder::kGgufRotary), rotary);
  EXPECT_EQ(reorder_rows(rotary, 8, 4, RowOrder::kUsual), usual);
}

TEST(ReorderRows, ComesBackWithWiderRowsAndHeads) {
  std::vector<std::byte> data(3 * 64 * 5);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 37);
  const auto there = reorder_rows(data, 3 * 64, 64, RowOrder::kGgufRotary);
  EXPECT_NE(there, data);
  EXPECT_EQ(reorder_rows(there, 3 * 64, 64, RowOrder::kUsual), data);
}

TEST(ReorderRows, RefusesWhatIsNoWholeHeads) {
  test::expect_error(ErrorCode::kInternal, {"7 rows"}, [] { reorder_rows(bytes({1, 2, 3, 4, 5, 6, 7}), 7, 4, RowOrder::kUsual); });
  test::expect_error(ErrorCode::kInternal, {"heads of 3"}, [] { reorder_rows(bytes({1, 2, 3}), 3, 3, RowOrder::kUsual); });
}

}  // namespace
}  // namespace packlight::deploy
