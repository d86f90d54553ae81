#include "data/preprocess_fields.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

#include "base/fail.h"

namespace packlight::data {
namespace {

constexpr std::array<std::string_view, 3> kAspects = {"none", "pad", "crop"};
constexpr std::array<std::string_view, 2> kPadAts = {"start", "centre"};
constexpr std::array<std::string_view, 3> kChannels = {"rgb", "bgr", "gray"};
constexpr std::array<std::string_view, 2> kLayouts = {"nchw", "nhwc"};

double number(const PreprocessField& field, std::string_view rule) {
  if (field.is_list || field.numbers.size() != 1 || !field.numbers[0]) field.refuse(rule);
  return *field.numbers[0];
}

Size size(const PreprocessField& field) {
  constexpr std::string_view kRule = "two whole numbers [height, width] from 1 to 16384";
  if (!field.is_list || field.numbers.size() != 2) field.refuse(kRule);
  const auto side = [&](size_t i) {
    const double value = field.numbers[i].value_or(0);
    if (value != std::floor(value) || value < 1 || value > kMaxPictureSide) field.refuse(kRule);
    return static_cast<int>(value);
  };
  return {side(0), side(1)};
}

std::vector<double> numbers(const PreprocessField& field, std::string_view rule) {
  if (field.numbers.size() != 1 && (!field.is_list || field.numbers.size() != 3))
    field.refuse(rule);
  std::vector<double> values;
  for (const std::optional<double>& one : field.numbers) {
    if (!one) field.refuse(rule);
    values.push_back(*one);
  }
  return values;
}

// The index of the word among `words`.
template <size_t N>
size_t word(const PreprocessField& field, const std::array<std::string_view, N>& words) {
  for (size_t i = 0; i < N; ++i) {
    if (!field.is_list && field.word == words[i]) return i;
  }
  field.refuse(fmt::format("one of {}", fmt::join(words, ", ")));
}

template <size_t N, class Enum>
std::string name_of(const std::array<std::string_view, N>& words, Enum value) {
  return std::string(words[static_cast<size_t>(value)]);
}

std::string shown(const Json& json) {
  constexpr size_t kMost = 60;
  std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() > kMost ? text.substr(0, kMost - 3) + "..." : text;
}

std::optional<double> as_number(const Json& json) {
  if (!json.is_number() || !std::isfinite(json.get<double>())) return std::nullopt;
  return json.get<double>();
}

}  // namespace

void PreprocessField::refuse(std::string_view rule) const {
  fail(ErrorCode::kInvalidArgument, "[data.preprocess] {}: {}: {} is wrong: {}", place, key, text,
       rule);
}

void set_field(Preprocess& spec, const PreprocessField& field) {
  const std::string& key = field.key;
  if (key == "resize") {
    spec.resize = size(field);
  } else if (key == "crop") {
    spec.crop = size(field);
  } else if (key == "keep_aspect") {
    spec.keep_aspect = static_cast<Aspect>(word(field, kAspects));
  } else if (key == "pad_at") {
    spec.pad_at = static_cast<PadAt>(word(field, kPadAts));
  } else if (key == "pad_value") {
    constexpr std::string_view kRule = "a number from 0 to 255";
    const double value = number(field, kRule);
    if (value < 0 || value > 255) field.refuse(kRule);
    spec.pad_value = static_cast<float>(value);
  } else if (key == "channels") {
    spec.channels = static_cast<Channels>(word(field, kChannels));
  } else if (key == "layout") {
    spec.layout = static_cast<Layout>(word(field, kLayouts));
  } else if (key == "scale") {
    spec.scale = number(field, "a number above 0");
    if (!(spec.scale > 0)) field.refuse("a number above 0");
  } else if (key == "mean") {
    spec.mean = numbers(field, "a number, or one for each channel (1 or 3)");
  } else if (key == "std") {
    constexpr std::string_view kRule = "a number above 0, or one for each channel (1 or 3)";
    spec.std = numbers(field, kRule);
    for (const double value : spec.std) {
      if (!(value > 0)) field.refuse(kRule);
    }
  } else {
    field.refuse(
        "an unknown key; known are resize, keep_aspect, pad_at, pad_value, crop, channels, scale, "
        "mean, std, layout");
  }
}

void check_together(const Preprocess& spec, const std::string& origin) {
  if (!spec.resize && spec.keep_aspect != Aspect::kNone) {
    fail(ErrorCode::kInvalidArgument,
         "[data.preprocess] '{}': keep_aspect without resize: there is no size to fit", origin);
  }
  if (!spec.channels) return;
  const size_t channels = *spec.channels == Channels::kGray ? 1 : 3;
  for (const auto& [key, values] : {std::pair{"mean", &spec.mean}, std::pair{"std", &spec.std}}) {
    if (values->size() > 1 && values->size() != channels) {
      fail(ErrorCode::kInvalidArgument,
           "[data.preprocess] '{}': {}: {} values for {} channel: one for all, or one for each",
           origin, key, values->size(), channels);
    }
  }
}

Json preprocess_to_json(const Preprocess& spec) {
  const auto size_json = [](const Size& size) { return Json{size.height, size.width}; };
  Json json = Json::object();
  if (spec.resize) json["resize"] = size_json(*spec.resize);
  json["keep_aspect"] = name_of(kAspects, spec.keep_aspect);
  json["pad_at"] = name_of(kPadAts, spec.pad_at);
  json["pad_value"] = spec.pad_value;
  if (spec.crop) json["crop"] = size_json(*spec.crop);
  if (spec.channels) json["channels"] = name_of(kChannels, *spec.channels);
  json["scale"] = spec.scale;
  if (!spec.mean.empty()) json["mean"] = spec.mean;
  if (!spec.std.empty()) json["std"] = spec.std;
  json["layout"] = name_of(kLayouts, spec.layout);
  return json;
}

Preprocess preprocess_from_json(const Json& json, const std::string& origin) {
  if (!json.is_object()) {
    fail(ErrorCode::kInvalidArgument, "[data.preprocess] '{}': {}, not an object of settings",
         origin, shown(json));
  }
  Preprocess spec;
  for (const auto& [key, value] : json.items()) {
    PreprocessField field;
    field.place = fmt::format("'{}'", origin);
    field.key = key;
    field.text = shown(value);
    field.is_list = value.is_array();
    if (value.is_string()) field.word = value.get<std::string>();
    if (field.is_list) {
      for (const Json& one : value) field.numbers.push_back(as_number(one));
    } else {
      field.numbers.push_back(as_number(value));
    }
    set_field(spec, field);
  }
  check_together(spec, origin);
  return spec;
}

}  // namespace packlight::data
