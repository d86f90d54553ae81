#include <gtest/gtest.h>

#include "error_code.h"
#include "io/compressed_tensors.h"

namespace packlight::io {
namespace {

using test::expect_error;

// A folder whose first group has these targets and INT8 activations; the second, without them, is
// for every other module.
HfFolder folder_with(const std::vector<std::string>& targets) {
  const Json weights = {{"num_bits", 4}, {"type", "int"}, {"symmetric", true}, {"group_size", 32}};
  const Json activations = {{"num_bits", 8}, {"dynamic", true}, {"strategy", "token"}};
  HfFolder folder;
  folder.path = "model";
  folder.config["quantization_config"] = {
      {"quant_method", "compressed-tensors"},
      {"format", "pack-quantized"},
      {"config_groups",
       {{"group_0",
         {{"targets", targets}, {"weights", weights}, {"input_activations", activations}}},
        {"group_1", {{"targets", {"Linear"}}, {"weights", weights}}}}}};
  return folder;
}

bool targets(const std::string& target, const std::string& module) {
  const HfFolder folder = folder_with({target});
  return CompressedTensors(folder).int8_activations(module);
}

void expect_refused(const std::string& target, std::initializer_list<std::string> parts) {
  SCOPED_TRACE(target.substr(0, 60));
  const std::string module = "model.layers.0.self_attn.q_proj";
  expect_error(ErrorCode::kUnsupported, {"config.json", target.substr(0, 40)},
               [&] { targets(target, module); });
  expect_error(ErrorCode::kUnsupported, parts, [&] { targets(target, module); });
}

TEST(CompressedConfigTest, ExpressionMatchesFromTheStartAndNotToTheEnd) {
  const std::string module = "model.layers.12.mlp.up_proj";
  EXPECT_TRUE(targets("re:.*mlp", module));
  EXPECT_TRUE(targets("re:model\\.layers\\.\\d+\\.(mlp|self_attn)\\.", module));
  EXPECT_TRUE(targets("re:.*up_proj$", module));
  EXPECT_FALSE(targets("re:mlp", module));
  EXPECT_FALSE(targets("re:lm_head|mlp", module));
  EXPECT_FALSE(targets("re:.*mlp$", module));
  EXPECT_FALSE(targets("re:.*(?<!up)_proj$", module));
}

TEST(CompressedConfigTest, NameMatchesWhole) {
  EXPECT_TRUE(targets("lm_head", "lm_head"));
  EXPECT_FALSE(targets("lm_head", "lm_head_2"));
  EXPECT_FALSE(targets("lm.head", "lm_head"));
}

TEST(CompressedConfigTest, ExpressionIsBounded) {
  EXPECT_TRUE(
      targets("re:" + std::string(509, '.') + "?.*" /* 512 bytes */, std::string(508, 'a')));
  expect_refused("re:" + std::string(513, 'a'), {"513 bytes, at most 512"});
  expect_refused("re:" + std::string(30'000, '(') + std::string(30'000, ')'), {"60000 bytes"});
  expect_refused("re:" + std::string(256, '(') + std::string(256, ')'), {"too deep"});
}

TEST(CompressedConfigTest, ExpressionThatIsNoneIsRefused) {
  expect_refused("re:(", {"is no regular expression", "byte 1"});
  expect_refused("re:[z-a]", {"is no regular expression", "range out of order"});
  expect_refused("re:\\C", {"is no regular expression"});
}

TEST(CompressedConfigTest, WorkOfAMatchIsBounded) {
  // A class: PCRE2 looks for a letter at the end before it starts to match.
  expect_refused("re:(.*)*(.*)*(.*)*(.*)*[YZ]", {"fails on module 'model.layers.0", "match limit"});
  expect_refused("re:" + std::string(100, '(') + std::string(100, ')') + "(?:.?(?R))*",
                 {"fails on module 'model.layers.0", "limit"});
}

}  // namespace
}  // namespace packlight::io
