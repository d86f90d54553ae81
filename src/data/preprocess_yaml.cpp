#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <array>
#include <cmath>
#include <set>

#include "base/fail.h"
#include "base/mapped_file.h"
#include "data/preprocess.h"

namespace packlight::data {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;  // a few lines; an alias bomb needs no more than a page

// One value of the file, with what an error must say about it.
class Value {
 public:
  Value(std::string key, YAML::Node node, const std::string& origin)
      : key_(std::move(key)), node_(std::move(node)), origin_(origin) {}

  [[noreturn]] void refuse(std::string_view rule) const {
    std::string text = node_.IsScalar() ? node_.Scalar() : list_text();
    if (text.size() > 60) text = text.substr(0, 57) + "...";
    fail(ErrorCode::kInvalidArgument, "[data.preprocess] '{}' line {}: {}: {} is wrong: {}",
         origin_, node_.Mark().line + 1, key_, text, rule);
  }

  double number(std::string_view rule) const { return number_of(node_, rule); }

  Size size() const {
    constexpr std::string_view kRule = "two whole numbers [height, width] from 1 to 16384";
    if (!node_.IsSequence() || node_.size() != 2) refuse(kRule);
    const auto side = [&](size_t i) {
      const double value = number_of(node_[i], kRule);
      if (value != std::floor(value) || value < 1 || value > kMaxPictureSide) refuse(kRule);
      return static_cast<int>(value);
    };
    return {side(0), side(1)};
  }

  std::vector<double> numbers(std::string_view rule) const {
    if (node_.IsScalar()) return {number_of(node_, rule)};
    if (!node_.IsSequence() || (node_.size() != 1 && node_.size() != 3)) refuse(rule);
    std::vector<double> values;
    for (size_t i = 0; i < node_.size(); ++i) values.push_back(number_of(node_[i], rule));
    return values;
  }

  // The index of the word among `words`.
  template <size_t N>
  size_t word(const std::array<std::string_view, N>& words) const {
    for (size_t i = 0; i < N; ++i) {
      if (node_.IsScalar() && node_.Scalar() == words[i]) return i;
    }
    refuse(fmt::format("one of {}", fmt::join(words, ", ")));
  }

 private:
  double number_of(const YAML::Node& node, std::string_view rule) const {
    double value = 0;
    if (!node.IsScalar() || !YAML::convert<double>::decode(node, value) || !std::isfinite(value))
      refuse(rule);
    return value;
  }

  std::string list_text() const {
    if (node_.IsNull()) return "nothing";
    if (!node_.IsSequence()) return "a mapping";
    std::string text = "[";
    for (size_t i = 0; i < node_.size() && text.size() < 60; ++i)
      text += (i > 0 ? ", " : "") + (node_[i].IsScalar() ? node_[i].Scalar() : std::string("..."));
    return text + "]";
  }

  std::string key_;
  YAML::Node node_;
  const std::string& origin_;
};

void set_field(Preprocess& spec, const std::string& key, const Value& value) {
  if (key == "resize") {
    spec.resize = value.size();
  } else if (key == "crop") {
    spec.crop = value.size();
  } else if (key == "keep_aspect") {
    spec.keep_aspect = static_cast<Aspect>(value.word<3>({"none", "pad", "crop"}));
  } else if (key == "pad_at") {
    spec.pad_at = static_cast<PadAt>(value.word<2>({"start", "centre"}));
  } else if (key == "pad_value") {
    const double number = value.number("a number from 0 to 255");
    if (number < 0 || number > 255) value.refuse("a number from 0 to 255");
    spec.pad_value = static_cast<float>(number);
  } else if (key == "channels") {
    spec.channels = static_cast<Channels>(value.word<3>({"rgb", "bgr", "gray"}));
  } else if (key == "layout") {
    spec.layout = static_cast<Layout>(value.word<2>({"nchw", "nhwc"}));
  } else if (key == "scale") {
    spec.scale = value.number("a number above 0");
    if (!(spec.scale > 0)) value.refuse("a number above 0");
  } else if (key == "mean") {
    spec.mean = value.numbers("a number, or one for each channel (1 or 3)");
  } else if (key == "std") {
    constexpr std::string_view kRule = "a number above 0, or one for each channel (1 or 3)";
    spec.std = value.numbers(kRule);
    for (const double number : spec.std) {
      if (!(number > 0)) value.refuse(kRule);
    }
  } else {
    value.refuse(
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

Preprocess parse_document(const YAML::Node& document, const std::string& origin) {
  if (!document.IsMap() || document.size() != 1 || !document["preprocess"]) {
    fail(ErrorCode::kInvalidArgument,
         "[data.preprocess] '{}': one top-level key, 'preprocess', is wanted", origin);
  }
  const YAML::Node map = document["preprocess"];
  Preprocess spec;
  if (!map.IsMap())
    Value("preprocess", map, origin).refuse("a mapping {resize: ..., channels: ...}");
  std::set<std::string> seen;
  for (const auto& pair : map) {
    const std::string key = pair.first.IsScalar() ? pair.first.Scalar() : "(no word)";
    const Value value(key, pair.second, origin);
    if (!seen.insert(key).second) value.refuse("the key is there twice");
    set_field(spec, key, value);
  }
  check_together(spec, origin);
  return spec;
}

}  // namespace

Preprocess parse_preprocess(std::string_view text, const std::string& origin) {
  if (text.size() > kMaxFileBytes) {
    fail(ErrorCode::kCorrupt, "[data.preprocess] '{}': {} bytes, at most {} are read", origin,
         text.size(), kMaxFileBytes);
  }
  try {
    return parse_document(YAML::Load(std::string(text)), origin);
  } catch (const YAML::Exception& e) {
    fail(ErrorCode::kCorrupt, "[data.preprocess] '{}' line {}: {}", origin, e.mark.line + 1, e.msg);
  }
}

Preprocess read_preprocess(const std::filesystem::path& path) {
  const auto file = base::MappedFile::open(path);
  const auto bytes = file->bytes();
  return parse_preprocess({reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                          path.string());
}

std::optional<Preprocess> find_preprocess(const std::filesystem::path& model) {
  const std::filesystem::path sidecar = std::filesystem::path(model).replace_extension(".yaml");
  std::error_code error;
  if (!std::filesystem::exists(sidecar, error)) return std::nullopt;
  return read_preprocess(sidecar);
}

}  // namespace packlight::data
