#include "quantize/recipe.h"

#include "base/fail.h"

namespace packlight::quantize {
namespace {

constexpr std::string_view kSourceNames[] = {"none", "text", "model"};

const Json& member(const Json& json, const char* key, std::string_view origin) {
  if (!json.is_object() || !json.contains(key)) {
    fail(ErrorCode::kCorrupt, "[quantize] '{}': the recipe lacks '{}'", origin, key);
  }
  return json.at(key);
}

std::string text(const Json& json, const char* key, std::string_view origin) {
  const Json& value = member(json, key, origin);
  if (!value.is_string()) fail(ErrorCode::kCorrupt, "[quantize] '{}': the recipe's '{}' is no text", origin, key);
  return value.get<std::string>();
}

int64_t count(const Json& json, const char* key, std::string_view origin) {
  const Json& value = member(json, key, origin);
  if (!value.is_number_integer() || value.get<int64_t>() < 0) {
    fail(ErrorCode::kCorrupt, "[quantize] '{}': the recipe's '{}' is no count", origin, key);
  }
  return value.get<int64_t>();
}

CalibrationSource calibration_from_json(const Json& json, std::string_view origin) {
  CalibrationSource out;
  const std::string kind = text(json, "source", origin);
  if (kind == kSourceNames[0]) return out;
  if (kind == kSourceNames[1]) {
    out.kind = CalibrationSource::Kind::kText;
    out.text_name = text(json, "text", origin);
    out.text_hash = text(json, "text_xxh3", origin);
  } else if (kind == kSourceNames[2]) {
    out.kind = CalibrationSource::Kind::kModel;
  } else {
    fail(ErrorCode::kCorrupt, "[quantize] '{}': calibration source '{}' is none of none, text, model", origin, kind);
  }
  out.tokens = count(json, "tokens", origin);
  out.window = count(json, "window", origin);
  return out;
}

}  // namespace

Json recipe_to_json(const Recipe& recipe) {
  Json json;
  json["body"] = io::to_string(recipe.body);
  json["head"] = io::to_string(recipe.head);
  json["overrides"] = Json::array();
  for (const Override& rule : recipe.overrides) {
    json["overrides"].push_back(Json::array({rule.pattern, io::to_string(rule.format)}));
  }
  json["scale"] = recipe.method == ScaleMethod::kSearch ? "search" : "absmax";
  json["seed"] = recipe.seed;
  const CalibrationSource& source = recipe.calibration;
  Json& calibration = json["calibration"];
  calibration["source"] = kSourceNames[static_cast<int>(source.kind)];
  if (source.kind == CalibrationSource::Kind::kText) {
    calibration["text"] = source.text_name;
    calibration["text_xxh3"] = source.text_hash;
  }
  if (source.kind != CalibrationSource::Kind::kNone) {
    calibration["tokens"] = source.tokens;
    calibration["window"] = source.window;
  }
  return json;
}

Recipe recipe_from_json(const Json& json, std::string_view origin) {
  Recipe recipe;
  recipe.body = io::weight_format_from_string(text(json, "body", origin), origin);
  recipe.head = io::weight_format_from_string(text(json, "head", origin), origin);
  const Json& overrides = member(json, "overrides", origin);
  if (!overrides.is_array()) fail(ErrorCode::kCorrupt, "[quantize] '{}': the recipe's 'overrides' is no list", origin);
  for (const Json& rule : overrides) {
    if (!rule.is_array() || rule.size() != 2 || !rule[0].is_string() || !rule[1].is_string()) {
      fail(ErrorCode::kCorrupt, "[quantize] '{}': an override of the recipe is no pair of texts", origin);
    }
    recipe.overrides.push_back(
        {rule[0].get<std::string>(), io::weight_format_from_string(rule[1].get<std::string>(), origin)});
  }
  const std::string method = text(json, "scale", origin);
  if (method != "search" && method != "absmax") {
    fail(ErrorCode::kCorrupt, "[quantize] '{}': scale method '{}' is none of absmax, search", origin, method);
  }
  recipe.method = method == "search" ? ScaleMethod::kSearch : ScaleMethod::kAbsMax;
  recipe.seed = static_cast<uint64_t>(count(json, "seed", origin));
  recipe.calibration = calibration_from_json(member(json, "calibration", origin), origin);
  return recipe;
}

}  // namespace packlight::quantize
