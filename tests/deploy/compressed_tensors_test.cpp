#include "deploy/compressed_tensors.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tiny_language_model.h"

namespace packlight::deploy {
namespace {

using codec::DType;

template <class T>
std::vector<T> as(const std::vector<std::byte>& bytes) {
  std::vector<T> out(bytes.size() / sizeof(T));
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

TEST(CompressedForm, RaggedGroupBecomesTheLargestThatDivides) {
  EXPECT_EQ(compressed_form(4, true, 128, 576, false).group_size, 64);
  EXPECT_EQ(compressed_form(4, true, 128, 1536, false).group_size, 128);
  EXPECT_EQ(compressed_form(4, true, 32, 80, false).group_size, 16);
  EXPECT_EQ(compressed_form(4, true, 576, 576, false).group_size, 0);
  EXPECT_EQ(compressed_form(4, true, 128, 64, false).group_size, 0);
}

TEST(CompressedForm, OnlyPerChannelW8A8IsIntQuantized) {
  EXPECT_FALSE(compressed_form(8, true, 64, 64, true).packed);
  EXPECT_TRUE(compressed_form(8, true, 64, 64, false).packed);
  EXPECT_TRUE(compressed_form(8, true, 32, 64, true).packed);
  EXPECT_TRUE(compressed_form(4, true, 64, 64, true).packed);
}

// The layout as compressed-tensors' pack_to_int32 defines it: element i at bit i * bits of its row, plus 8.
TEST(Compress, PacksSymmetricInt4LittleEndFirst) {
  codec::QuantizedMatrix m;
  m.rows = 1;
  m.cols = 9;
  m.bits = 4;
  m.group_size = 9;
  m.codes = {-8, -7, -6, -5, -4, -3, -2, -1, 7};
  m.scales = {0x3c00};
  const CompressedForm form = compressed_form(4, true, 9, 9, false);
  EXPECT_EQ(as<uint32_t>(compress(m, form, 0)), (std::vector<uint32_t>{0x76543210u, 0xfu}));
  EXPECT_EQ(as<uint16_t>(compress(m, form, 1)), (std::vector<uint16_t>{0x3c00}));
  EXPECT_EQ(as<int64_t>(compress(m, form, 2)), (std::vector<int64_t>{1, 9}));
  const auto parts = compressed_parts(form, 1, 9);
  ASSERT_EQ(parts.size(), 3u);
  EXPECT_EQ(parts[0].shape, (std::vector<int64_t>{1, 2}));
}

TEST(Compress, PacksInt8WithOffset128) {
  codec::QuantizedMatrix m;
  m.rows = 1;
  m.cols = 5;
  m.bits = 8;
  m.group_size = 5;
  m.codes = {-127, 0, 1, 127, -1};
  m.scales = {0x3c00};
  EXPECT_EQ(as<uint32_t>(compress(m, compressed_form(8, true, 5, 5, false), 0)),
            (std::vector<uint32_t>{0xff818001u, 0x7fu}));
}

TEST(Compress, IntQuantizedKeepsPlainCodes) {
  const auto m = test::random_codes(3, 40, 8, 0, true);
  const CompressedForm form = compressed_form(8, true, 40, 40, true);
  const auto parts = compressed_parts(form, 3, 40);
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_EQ(parts[0].dtype, DType::kI8);
  EXPECT_EQ(as<int8_t>(compress(m, form, 0)), m.codes);
  EXPECT_EQ(as<uint16_t>(compress(m, form, 1)), m.scales);
}

TEST(Compress, ZeroPointsLieAlongTheRows) {
  codec::QuantizedMatrix m = test::random_codes(9, 64, 4, 32, false);
  for (size_t i = 0; i < m.zeros.size(); ++i) m.zeros[i] = static_cast<uint8_t>(i % 16);  // row r: 2r, 2r + 1
  const CompressedForm form = compressed_form(4, false, 32, 64, false);
  // Words of rows 0-7 for both groups, then of row 8.
  EXPECT_EQ(as<uint32_t>(compress(m, form, 3)), (std::vector<uint32_t>{0xeca86420u, 0xfdb97531u, 0x0u, 0x1u}));
  EXPECT_EQ(compressed_parts(form, 9, 64)[3].shape, (std::vector<int64_t>{2, 2}));
}

TEST(Compress, ScalesOfASplitGroupAreRepeated) {
  codec::QuantizedMatrix m = test::random_codes(1, 96, 4, 64, true);  // groups of 64 and 32
  m.scales = {0x3c00, 0x4000};
  const CompressedForm form = compressed_form(4, true, 64, 96, false);
  EXPECT_EQ(form.group_size, 32);
  EXPECT_EQ(as<uint16_t>(compress(m, form, 1)), (std::vector<uint16_t>{0x3c00, 0x3c00, 0x4000}));
}

TEST(QuantizationConfig, OneFormTargetsLinear) {
  const CompressedForm form = compressed_form(4, true, 32, 64, false);
  const Json json = quantization_config({{"a", form}, {"b", form}}, {"lm_head"});
  EXPECT_EQ(json["format"], "pack-quantized");
  EXPECT_EQ(json["config_groups"].size(), 1u);
  EXPECT_EQ(json["config_groups"]["group_0"]["targets"], Json::array({"Linear"}));
  EXPECT_EQ(json["config_groups"]["group_0"]["weights"]["group_size"], 32);
  EXPECT_TRUE(json["config_groups"]["group_0"]["input_activations"].is_null());
  EXPECT_EQ(json["ignore"], Json::array({"lm_head"}));
}

TEST(QuantizationConfig, SeveralFormsTargetModules) {
  const Json json = quantization_config({{"a", compressed_form(4, true, 32, 64, false)},
                                         {"b", compressed_form(8, true, 64, 64, true)}}, {});
  EXPECT_EQ(json["format"], "mixed-precision");
  std::vector<Json> targets;
  for (const auto& group : json["config_groups"]) targets.push_back(group["targets"]);
  EXPECT_EQ(targets, (std::vector<Json>{Json::array({"a"}), Json::array({"b"})}));
}

}  // namespace
}  // namespace packlight::deploy
