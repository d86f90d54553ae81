#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "io/network_package.h"
#include "packlight/packlight.h"
#include "temp_dir.h"

namespace packlight {
namespace {

using test::TempDir;

// y = x + w, x [n, 2] F32; and m, the shape of x.
std::string write_sum(const TempDir& dir) {
  static constexpr float kWeight[2] = {10, 20};
  io::Network network;
  network.name = "sum";
  network.values = {{"x", codec::DType::kF32, std::vector<io::NetworkDim>{{-1, "n"}, {2, ""}}, std::nullopt},
                    {"w", std::nullopt, std::nullopt, std::nullopt},
                    {"y", std::nullopt, std::nullopt, std::nullopt},
                    {"m", codec::DType::kI64, std::vector<io::NetworkDim>{{2, ""}}, std::nullopt}};
  network.values[1].constant.emplace();
  network.values[1].constant->record = {
      "w", codec::DType::kF32, {2}, std::as_bytes(std::span(kWeight)), nullptr};
  network.nodes = {{"add", "Add", "", {0, 1}, {2}, {}, 0}, {"shape", "Shape", "", {0}, {3}, {}, 0}};
  network.inputs = {0};
  network.outputs = {2, 3};
  io::write_network_package(dir / "sum.plk", network, {});
  return (dir / "sum.plk").string();
}

class CNetworkTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(packlight_network_open(write_sum(dir_).c_str(), 1, &network_), PACKLIGHT_OK)
        << packlight_last_error();
  }
  void TearDown() override { packlight_network_close(network_); }

  packlight_status set(const float* data, std::vector<int64_t> shape, size_t bytes) {
    return packlight_network_set_input(network_, 0, PACKLIGHT_F32, shape.size(), shape.data(), data,
                                       bytes);
  }

  TempDir dir_;
  packlight_network* network_ = nullptr;
};

TEST_F(CNetworkTest, SaysWhatItTakes) {
  EXPECT_EQ(packlight_network_input_count(network_), 1u);
  EXPECT_EQ(packlight_network_output_count(network_), 2u);
  packlight_tensor x, y;
  ASSERT_EQ(packlight_network_input(network_, 0, &x), PACKLIGHT_OK);
  EXPECT_STREQ(x.name, "x");
  EXPECT_EQ(x.type, PACKLIGHT_F32);
  ASSERT_EQ(x.rank, 2u);
  EXPECT_EQ(x.shape[0], -1);
  EXPECT_EQ(x.shape[1], 2);
  EXPECT_EQ(x.data, nullptr);
  ASSERT_EQ(packlight_network_output(network_, 0, &y), PACKLIGHT_OK);
  EXPECT_STREQ(y.name, "y");
  EXPECT_EQ(y.type, PACKLIGHT_TYPE_UNKNOWN);
  EXPECT_EQ(y.shape, nullptr);
  EXPECT_EQ(y.data, nullptr);
}

TEST_F(CNetworkTest, RunsOnTheCallersBuffer) {
  float x[6] = {1, 2, 3, 4, 5, 6};
  ASSERT_EQ(set(x, {3, 2}, sizeof x), PACKLIGHT_OK) << packlight_last_error();
  for (const float first : {1.f, 7.f}) {  // the buffer is read anew by each run
    x[0] = first;
    ASSERT_EQ(packlight_network_run(network_), PACKLIGHT_OK) << packlight_last_error();
    packlight_tensor y, m;
    ASSERT_EQ(packlight_network_output(network_, 0, &y), PACKLIGHT_OK);
    ASSERT_EQ(packlight_network_output(network_, 1, &m), PACKLIGHT_OK);
    EXPECT_EQ(y.type, PACKLIGHT_F32);
    ASSERT_EQ(y.rank, 2u);
    EXPECT_EQ(y.shape[0], 3);
    ASSERT_EQ(y.size_bytes, sizeof x);
    const float want[6] = {first + 10, 22, 13, 24, 15, 26};
    EXPECT_EQ(std::memcmp(y.data, want, sizeof want), 0);
    ASSERT_EQ(m.type, PACKLIGHT_I64);
    EXPECT_EQ(static_cast<const int64_t*>(m.data)[0], 3);
    EXPECT_EQ(packlight_network_arena_bytes(network_), 64u);
  }
}

TEST_F(CNetworkTest, RefusesWithAReason) {
  const float x[6] = {};
  const auto refused = [&](packlight_status status, const char* part) {
    EXPECT_EQ(status, PACKLIGHT_INVALID_ARGUMENT);
    EXPECT_NE(std::string(packlight_last_error()).find(part), std::string::npos)
        << packlight_last_error();
  };
  packlight_tensor tensor;
  refused(packlight_network_run(network_), "'x' is not set");
  refused(packlight_network_input(network_, 1, &tensor), "index 1");
  refused(packlight_network_output(network_, 2, &tensor), "index 2");
  refused(packlight_network_output(network_, 0, nullptr), "NULL");
  refused(set(x, {3, 2}, 20), "20 bytes");
  refused(set(x, {-3, 2}, 24), "dimension -3");
  refused(set(x, {int64_t{1} << 62, int64_t{1} << 62}, 24), "overflow");
  refused(set(nullptr, {3, 2}, 24), "NULL");
  refused(set(reinterpret_cast<const float*>(reinterpret_cast<const char*>(x) + 1), {1, 2}, 8),
          "aligned");
  const int64_t shape[] = {3, 2};
  refused(
      packlight_network_set_input(network_, 0, 99, 2, shape, x, 24),
      "type 99");
  ASSERT_EQ(set(x, {2, 3}, 24), PACKLIGHT_OK);
  refused(packlight_network_run(network_), "input 'x' has shape [2, 3]");
  ASSERT_EQ(packlight_network_output(network_, 0, &tensor), PACKLIGHT_OK);
  EXPECT_EQ(tensor.data, nullptr);  // nothing ran
}

// A state that goes round: what a run made is written over by the next, so it is no input as it is.
TEST_F(CNetworkTest, AnOutputIsNoInputBeforeItIsCopied) {
  float x[2] = {1, 2};
  ASSERT_EQ(set(x, {1, 2}, sizeof x), PACKLIGHT_OK);
  ASSERT_EQ(packlight_network_run(network_), PACKLIGHT_OK);
  packlight_tensor y;
  ASSERT_EQ(packlight_network_output(network_, 0, &y), PACKLIGHT_OK);
  const auto* state = static_cast<const float*>(y.data);
  EXPECT_EQ(set(state, {1, 2}, sizeof x), PACKLIGHT_INVALID_ARGUMENT);
  EXPECT_NE(std::string(packlight_last_error()).find("'x': data is of an output"),
            std::string::npos)
      << packlight_last_error();
  ASSERT_EQ(packlight_network_output(network_, 0, &y), PACKLIGHT_OK);
  EXPECT_EQ(y.data, state);  // nothing was set
  std::memcpy(x, state, sizeof x);
  ASSERT_EQ(set(x, {1, 2}, sizeof x), PACKLIGHT_OK) << packlight_last_error();
}

TEST(CInterfaceTest, ErrorsAreOfTheirThreadAndLeaveResultsAlone) {
  const TempDir dir;
  auto* untouched = reinterpret_cast<packlight_network*>(&packlight_last_error);
  packlight_network* network = untouched;
  EXPECT_EQ(packlight_network_open((dir / "absent.plk").c_str(), 1, &network), PACKLIGHT_NOT_FOUND);
  EXPECT_EQ(network, untouched);
  EXPECT_NE(std::strstr(packlight_last_error(), "absent.plk"), nullptr);
  std::thread([] { EXPECT_STREQ(packlight_last_error(), ""); }).join();
  test::write_file(dir / "text.plk", "no package");
  EXPECT_EQ(packlight_network_open((dir / "text.plk").c_str(), 1, &network), PACKLIGHT_CORRUPT);
  EXPECT_EQ(packlight_network_open(nullptr, 1, &network), PACKLIGHT_INVALID_ARGUMENT);
  EXPECT_EQ(packlight_network_open("x", -1, &network), PACKLIGHT_INVALID_ARGUMENT);
  packlight_network_close(nullptr);
}

TEST(CInterfaceTest, EnginesAreNotTakenForEachOther) {
  const TempDir dir;
  packlight_language_model* model = nullptr;
  EXPECT_EQ(packlight_language_model_open(write_sum(dir).c_str(), nullptr, &model),
            PACKLIGHT_UNSUPPORTED);
  EXPECT_NE(std::strstr(packlight_last_error(), "holds a network"), nullptr)
      << packlight_last_error();
  EXPECT_EQ(model, nullptr);
  packlight_request request;
  packlight_request_init(&request);
  EXPECT_EQ(request.max_tokens, -1);
  EXPECT_EQ(request.top_p, 1);
  EXPECT_EQ(packlight_language_model_generate(nullptr, &request, nullptr, nullptr, nullptr),
            PACKLIGHT_INVALID_ARGUMENT);
  packlight_language_model_close(nullptr);
}

}  // namespace
}  // namespace packlight
