#include "io/package_json.h"

#include <algorithm>

#include "base/fail.h"
#include "io/config_fields.h"

namespace packlight::io {
namespace {

// {"default": "w4a8:g32", "int8:row": ["model.embed_tokens.weight"], ...}
Json formats_to_json(const std::map<std::string, WeightFormat>& formats) {
  std::map<std::string, std::vector<std::string>> names;
  for (const auto& [name, format] : formats) names[to_string(format)].push_back(name);
  const auto commonest = std::max_element(
      names.begin(), names.end(),
      [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
  Json json = Json::object();
  if (commonest == names.end()) return json;
  json["default"] = commonest->first;
  for (const auto& [format, list] : names) {
    if (format != commonest->first) json[format] = list;
  }
  return json;
}

std::map<std::string, WeightFormat> formats_from_json(const Json& json, const DecoderConfig& config,
                                                      std::string_view origin) {
  const ConfigFields fields(json, origin);
  const WeightFormat common = weight_format_from_string(fields.text("default", ""), origin);
  std::map<std::string, WeightFormat> formats;
  for (const TensorSpec& spec : decoder_tensors(config)) {
    if (!spec.is_vector) formats[spec.name] = common;
  }
  for (const auto& [text, names] : json.items()) {
    if (text == "default") continue;
    const WeightFormat format = weight_format_from_string(text, origin);
    if (!names.is_array())
      fail(ErrorCode::kCorrupt, "[package] '{}': format '{}' lists no names", origin, text);
    for (const Json& name : names) {
      const auto it = name.is_string() ? formats.find(name.get<std::string>()) : formats.end();
      if (it == formats.end()) {
        fail(ErrorCode::kCorrupt,
             "[package] '{}': format '{}' is for {}, which is no matrix of the model", origin, text,
             name.dump());
      }
      it->second = format;
    }
  }
  return formats;
}

}  // namespace

Json package_metadata_to_json(const PackageMetadata& metadata) {
  return {{"format_version", metadata.format_version},
          {"config", decoder_config_to_json(metadata.config)},
          {"formats", formats_to_json(metadata.formats)},
          {"recipe", metadata.recipe},
          {"checksums", metadata.checksums}};
}

PackageMetadata package_metadata_from_json(const Json& json, std::string_view origin) {
  PackageHeader header = package_header_from_json(json, origin);
  if (header.kind != PackageKind::kDecoder) {
    fail(ErrorCode::kUnsupported, "[package] '{}' holds a network, not a language model", origin);
  }
  const ConfigFields fields(json, origin);
  PackageMetadata metadata;
  metadata.format_version = header.format_version;
  for (const std::string_view key : {"config", "formats"}) {
    const Json* value = fields.find(key);
    if (value == nullptr || !value->is_object()) {
      fail(ErrorCode::kCorrupt, "[package] '{}': metadata has no object '{}'", origin, key);
    }
  }
  metadata.config = decoder_config_from_json(*fields.find("config"), origin);
  metadata.formats = formats_from_json(*fields.find("formats"), metadata.config, origin);
  metadata.recipe = std::move(header.recipe);
  metadata.checksums = std::move(header.checksums);
  return metadata;
}

BlockOf decoder_blocks(const DecoderConfig& config) {
  std::map<std::string, std::string> blocks;
  for (const TensorSpec& spec : decoder_tensors(config)) blocks[spec.name] = spec.block;
  return [blocks = std::move(blocks)](std::string name) {
    for (const std::string_view suffix : {kScalesSuffix, kZerosSuffix}) {
      if (name.ends_with(suffix) && !blocks.contains(name))
        name.resize(name.size() - suffix.size());
    }
    const auto it = blocks.find(name);
    return it == blocks.end() ? name : it->second;
  };
}

}  // namespace packlight::io
