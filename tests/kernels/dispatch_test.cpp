#include <cstdlib>

#include "kernels/isa_test.h"
#include "packlight/error.h"

namespace packlight::kernels {
namespace {

TEST(Dispatch, ScalarIsAlwaysThereAndLast) {
  ASSERT_FALSE(available().empty());
  EXPECT_EQ(available().back()->name, "scalar");
  EXPECT_EQ(built().back()->name, "scalar");
  EXPECT_LE(available().size(), built().size());
}

TEST(Dispatch, EveryTableIsComplete) {
  for (const Kernels* table : built()) {
    EXPECT_NE(table->quantize_activations, nullptr) << table->name;
    EXPECT_NE(table->linear_a8, nullptr) << table->name;
    EXPECT_NE(table->linear_f32, nullptr) << table->name;
    EXPECT_NE(table->expand_tiles, nullptr) << table->name;
    EXPECT_NE(table->attention, nullptr) << table->name;
    EXPECT_NE(table->store_int8, nullptr) << table->name;
  }
}

// active() chooses once per process, so each choice is made in a child process.
TEST(Dispatch, TheEnvironmentForcesATable) {
  for (const Kernels* table : available()) {
    EXPECT_EXIT(
        {
          setenv("PACKLIGHT_FORCE_ISA", std::string(table->name).c_str(), 1);
          std::exit(&active() == table ? 0 : 1);
        },
        testing::ExitedWithCode(0), "");
  }
  EXPECT_EXIT(
      {
        setenv("PACKLIGHT_FORCE_ISA", "", 1);
        std::exit(&active() == available().front() ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

TEST(Dispatch, AnUnknownNameIsAnErrorThatListsTheKnownOnes) {
  EXPECT_EXIT(
      {
        setenv("PACKLIGHT_FORCE_ISA", "mmx", 1);
        try {
          active();
        } catch (const Error& e) {
          std::fprintf(stderr, "%s\n", e.what());
          std::exit(e.code() == ErrorCode::kInvalidArgument ? 0 : 1);
        }
        std::exit(2);
      },
      testing::ExitedWithCode(0), "'mmx'.*scalar");
}

TEST(Dispatch, WeightsOfAnotherKindAreAnError) {
  codec::EncodedTensor dense;
  dense.rows = dense.cols = 1;
  float x[32] = {}, y[1];
  EXPECT_THROW(available().front()->linear_f32(dense, x, 1, 32, 0, 1, y, 1), Error);
  Activations a(1, 64);
  const codec::EncodedTensor f16 = codec::pack_f16(std::vector<float>(64), 1, 64);
  EXPECT_THROW(available().front()->linear_a8(f16, a.view, 0, 1, y, 1), Error);
}

}  // namespace
}  // namespace packlight::kernels
