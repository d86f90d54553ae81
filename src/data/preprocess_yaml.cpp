#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/fail.h"
#include "base/mapped_file.h"
#include "data/preprocess_fields.h"

namespace packlight::data {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;  // a few lines; an alias bomb needs no more than a page

constexpr size_t kMostElements = 4;  // of a list that are looked at: no key takes so many

std::optional<double> as_number(const YAML::Node& node) {
  double value = 0;
  if (!node.IsScalar() || !YAML::convert<double>::decode(node, value) || !std::isfinite(value))
    return std::nullopt;
  return value;
}

std::string shown(const YAML::Node& node) {
  std::string text = node.IsScalar()     ? node.Scalar()
                     : node.IsNull()     ? "nothing"
                     : node.IsSequence() ? "["
                                         : "a mapping";
  if (node.IsSequence()) {
    for (size_t i = 0; i < node.size() && text.size() < 60; ++i)
      text += (i > 0 ? ", " : "") + (node[i].IsScalar() ? node[i].Scalar() : std::string("..."));
    text += "]";
  }
  return text.size() > 60 ? text.substr(0, 57) + "..." : text;
}

PreprocessField field_of(const std::string& key, const YAML::Node& node,
                         const std::string& origin) {
  PreprocessField field;
  field.place = fmt::format("'{}' line {}", origin, node.Mark().line + 1);
  field.key = key;
  field.text = shown(node);
  field.is_list = node.IsSequence();
  if (node.IsScalar()) field.word = node.Scalar();
  if (field.is_list) {
    for (size_t i = 0; i < std::min(node.size(), kMostElements); ++i)
      field.numbers.push_back(as_number(node[i]));
  } else {
    field.numbers.push_back(as_number(node));
  }
  return field;
}

Preprocess parse_document(const YAML::Node& document, const std::string& origin) {
  if (!document.IsMap() || document.size() != 1 || !document["preprocess"]) {
    fail(ErrorCode::kInvalidArgument,
         "[data.preprocess] '{}': one top-level key, 'preprocess', is wanted", origin);
  }
  const YAML::Node map = document["preprocess"];
  Preprocess spec;
  if (!map.IsMap())
    field_of("preprocess", map, origin).refuse("a mapping {resize: ..., channels: ...}");
  std::set<std::string> seen;
  for (const auto& pair : map) {
    const std::string key = pair.first.IsScalar() ? pair.first.Scalar() : "(no word)";
    const PreprocessField field = field_of(key, pair.second, origin);
    if (!seen.insert(key).second) field.refuse("the key is there twice");
    set_field(spec, field);
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
