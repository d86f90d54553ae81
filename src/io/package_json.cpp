#include "io/package_json.h"

#include <algorithm>
#include <cstring>

#include "base/fail.h"
#include "base/hash.h"
#include "base/mapped_file.h"
#include "base/progress.h"
#include "io/config_fields.h"

namespace packlight::io {
namespace {

constexpr int kFormatVersion = 1;

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

std::string block_of(std::string name, const std::map<std::string, std::string>& blocks) {
  for (const std::string_view suffix : {kScalesSuffix, kZerosSuffix}) {
    if (name.ends_with(suffix) && !blocks.contains(name)) name.resize(name.size() - suffix.size());
  }
  const auto it = blocks.find(name);
  return it == blocks.end() ? name : it->second;
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
  const ConfigFields fields(json, origin);
  PackageMetadata metadata;
  const int64_t version = fields.integer("format_version");
  if (version < 1 || version > kFormatVersion) {
    fail(ErrorCode::kUnsupported, "[package] '{}': format version {}, this program reads 1 to {}",
         origin, version, kFormatVersion);
  }
  metadata.format_version = static_cast<int>(version);
  for (const std::string_view key : {"config", "formats", "checksums"}) {
    const Json* value = fields.find(key);
    if (value == nullptr || !value->is_object()) {
      fail(ErrorCode::kCorrupt, "[package] '{}': metadata has no object '{}'", origin, key);
    }
  }
  metadata.config = decoder_config_from_json(*fields.find("config"), origin);
  metadata.formats = formats_from_json(*fields.find("formats"), metadata.config, origin);
  if (const Json* recipe = fields.find("recipe")) metadata.recipe = *recipe;
  for (const auto& [block, checksum] : fields.find("checksums")->items()) {
    if (!checksum.is_string()) {
      fail(ErrorCode::kCorrupt, "[package] '{}': the checksum of '{}' is no text", origin, block);
    }
    metadata.checksums[block] = checksum.get<std::string>();
  }
  return metadata;
}

std::string metadata_checksum(Json metadata) {
  metadata.erase("checksums");
  const std::string text = metadata.dump();
  return base::hex64(base::hash64(std::as_bytes(std::span(text))));
}

std::map<std::string, std::string> block_checksums(std::span<const TensorRecord> tensors,
                                                   const DecoderConfig& config) {
  std::map<std::string, std::string> blocks;
  for (const TensorSpec& spec : decoder_tensors(config)) blocks[spec.name] = spec.block;
  std::map<std::string, std::string> hashes;  // names and 8-byte hashes of a block, one after the other
  uint64_t total = 0;
  for (const TensorRecord& tensor : tensors) total += tensor.bytes.size();
  base::Progress progress("Checksums", total);
  for (const TensorRecord& tensor : tensors) {
    if (tensor.name.starts_with(kPaddingPrefix)) continue;
    progress.advance(tensor.bytes.size());
    const uint64_t hash = base::hash64(tensor.bytes);
    base::release_pages(tensor.bytes);
    hashes[block_of(tensor.name, blocks)]
        .append(tensor.name)
        .append(reinterpret_cast<const char*>(&hash), sizeof(hash));
  }
  for (auto& [block, text] : hashes)
    text = base::hex64(base::hash64(std::as_bytes(std::span(text))));
  return hashes;
}

}  // namespace packlight::io
