#include "quantize/scheme.h"

#include <gtest/gtest.h>

#include "packlight/error.h"
#include "quantize/recipe.h"

namespace packlight::quantize {
namespace {

const std::vector<io::TensorSpec> kTensors = {{"model.embed_tokens.weight", "embed", 64, 32, false},
                                              {"model.layers.0.mlp.up_proj.weight", "model.layers.0", 96, 32, false},
                                              {"model.layers.0.mlp.down_proj.weight", "model.layers.0", 32, 96, false},
                                              {"model.layers.1.mlp.down_proj.weight", "model.layers.1", 32, 96, false},
                                              {"model.norm.weight", "head", 1, 32, true},
                                              {"lm_head.weight", "head", 64, 32, false}};

TEST(Scheme, NamesGiveFormats) {
  EXPECT_EQ(io::to_string(make_format("w4a8", "32", false)), "w4a8:g32");
  EXPECT_EQ(io::to_string(make_format("int4", "64", true)), "int4:g64:asym");
  EXPECT_EQ(io::to_string(make_format("int8", "row", false)), "int8:row");
  EXPECT_EQ(io::to_string(make_format("w8a8", "128", false)), "w8a8:g128");
}

TEST(Scheme, RefusesUnknownNamesGroupsAndAsymmetricInt8) {
  EXPECT_THROW(make_format("int3", "32", false), Error);
  EXPECT_THROW(make_format("int4", "100", false), Error);
  EXPECT_THROW(make_format("int4", "", false), Error);
  EXPECT_THROW(make_format("int8", "32", true), Error);
  EXPECT_THROW(make_format("w8a8", "row", true), Error);
}

TEST(Scheme, PartsThatAreNotSaidComeFromTheBody) {
  const io::WeightFormat body = make_format("w4a8", "64", true);
  EXPECT_EQ(io::to_string(parse_scheme("int4", body)), "int4:g64:asym");
  EXPECT_EQ(io::to_string(parse_scheme("int8:row", body)), "int8:row");
  EXPECT_EQ(io::to_string(default_head(body)), "w8a8:g64");
  EXPECT_THROW(parse_scheme("int8:", body), Error);
}

TEST(Override, SplitsAtTheLastEqualsSign) {
  const Override rule = parse_override("*.down_proj.weight=int8:64", make_format("int4", "32", false));
  EXPECT_EQ(rule.pattern, "*.down_proj.weight");
  EXPECT_EQ(io::to_string(rule.format), "int8:g64");
  EXPECT_THROW(parse_override("no scheme", make_format("int4", "32", false)), Error);
  EXPECT_THROW(parse_override("=int8", make_format("int4", "32", false)), Error);
}

TEST(PlanFormats, HeadBodyAndOverridesWithTheLastWinning) {
  const io::WeightFormat body = make_format("int4", "32", false);
  const std::vector<Override> rules = {parse_override("*down_proj*=int8:64", body),
                                       parse_override("model.layers.1.*=f16", body), parse_override("lm_head.*=int4", body)};
  const auto plan = plan_formats(kTensors, body, default_head(body), rules);
  EXPECT_EQ(plan.size(), 5u);  // the vector has no format
  EXPECT_EQ(io::to_string(plan.at("model.embed_tokens.weight")), "int8:g32");
  EXPECT_EQ(io::to_string(plan.at("model.layers.0.mlp.up_proj.weight")), "int4:g32");
  EXPECT_EQ(io::to_string(plan.at("model.layers.0.mlp.down_proj.weight")), "int8:g64");
  EXPECT_EQ(io::to_string(plan.at("model.layers.1.mlp.down_proj.weight")), "f16");
  EXPECT_EQ(io::to_string(plan.at("lm_head.weight")), "int4:g32");
}

TEST(PlanFormats, PatternThatMatchesNothingIsAnError) {
  const io::WeightFormat body = make_format("int4", "32", false);
  for (const char* pattern : {"model.layers.7.*", "model.norm.weight", "MODEL*"}) {
    const std::vector<Override> rules = {{pattern, body}};
    try {
      plan_formats(kTensors, body, body, rules);
      FAIL() << pattern;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find(pattern), std::string::npos) << e.what();
    }
  }
}

Recipe example_recipe() {
  Recipe recipe;
  recipe.body = make_format("w4a8", "32", false);
  recipe.head = default_head(recipe.body);
  recipe.overrides = {parse_override("*.down_proj.weight=int8:row", recipe.body)};
  recipe.seed = 42;
  recipe.calibration = {CalibrationSource::Kind::kText, "prose.txt", "0123456789abcdef", 4096, 512};
  return recipe;
}

TEST(Recipe, SurvivesJson) {
  const Json json = recipe_to_json(example_recipe());
  const Recipe back = recipe_from_json(base::parse_json(json.dump(), "test"), "test");
  EXPECT_EQ(recipe_to_json(back), json);
  EXPECT_EQ(back.overrides, example_recipe().overrides);
  EXPECT_EQ(back.calibration.text_hash, "0123456789abcdef");
  EXPECT_EQ(back.method, ScaleMethod::kSearch);
}

TEST(Recipe, HostileJsonIsCorrupt) {
  const Json good = recipe_to_json(example_recipe());
  for (const char* key : {"body", "head", "overrides", "scale", "seed", "calibration"}) {
    Json json = good;
    json.erase(key);
    EXPECT_THROW(recipe_from_json(json, "x.plk"), Error) << key;
    json[key] = nullptr;
    EXPECT_THROW(recipe_from_json(json, "x.plk"), Error) << key;
  }
  Json json = good;
  json["scale"] = "best";
  EXPECT_THROW(recipe_from_json(json, "x.plk"), Error);
  json = good;
  json["calibration"]["source"] = "web";
  EXPECT_THROW(recipe_from_json(json, "x.plk"), Error);
  json = good;
  json["overrides"][0] = "int8";
  EXPECT_THROW(recipe_from_json(json, "x.plk"), Error);
  EXPECT_THROW(recipe_from_json(Json::array(), "x.plk"), Error);
}

}  // namespace
}  // namespace packlight::quantize
