#include <gtest/gtest.h>

#include <string>

#include "base/fail.h"

namespace packlight {
namespace {

TEST(Fail, KeepsTheMessageOnOneLineWhateverANameHolds) {
  try {
    fail(ErrorCode::kCorrupt, "[io] tensor '{}'", "a\nerror: all is well\x1b[2J");
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kCorrupt);
    EXPECT_STREQ(e.what(), "[io] tensor 'a\\x0aerror: all is well\\x1b[2J'");
    return;
  }
  ADD_FAILURE() << "nothing was thrown";
}

}  // namespace
}  // namespace packlight
