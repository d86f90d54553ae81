#include "io/config_fields.h"

#include "base/fail.h"

namespace packlight::io {
namespace {

int64_t as_integer(const Json& value, std::string_view key, std::string_view origin) {
  const bool fits =
      value.is_number_unsigned() ? value.get<uint64_t>() <= INT64_MAX : value.is_number_integer();
  if (!fits)
    fail(ErrorCode::kCorrupt, "[config] '{}': '{}' is {}, not a 63-bit integer", origin, key,
         value.dump());
  return value.get<int64_t>();
}

}  // namespace

ConfigFields::ConfigFields(const Json& object, std::string_view origin)
    : object_(object), origin_(origin) {
  if (!object.is_object()) fail(ErrorCode::kCorrupt, "[config] '{}': not a JSON object", origin);
}

const Json* ConfigFields::find(std::string_view key) const {
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

int64_t ConfigFields::integer(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) fail(ErrorCode::kCorrupt, "[config] '{}': '{}' is missing", origin_, key);
  return as_integer(*value, key, origin_);
}

int64_t ConfigFields::integer(std::string_view key, int64_t fallback) const {
  return has(key) ? integer(key) : fallback;
}

double ConfigFields::number(std::string_view key, double fallback) const {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_number())
    fail(ErrorCode::kCorrupt, "[config] '{}': '{}' is no number", origin_, key);
  return value->get<double>();
}

bool ConfigFields::boolean(std::string_view key, bool fallback) const {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean())
    fail(ErrorCode::kCorrupt, "[config] '{}': '{}' is neither true nor false", origin_, key);
  return value->get<bool>();
}

std::string ConfigFields::text(std::string_view key, std::string_view fallback) const {
  const Json* value = find(key);
  if (value == nullptr) return std::string(fallback);
  if (!value->is_string())
    fail(ErrorCode::kCorrupt, "[config] '{}': '{}' is no text", origin_, key);
  return value->get<std::string>();
}

std::vector<int64_t> ConfigFields::integers(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return {};
  if (!value->is_array()) return {as_integer(*value, key, origin_)};
  std::vector<int64_t> list;
  for (const Json& item : *value) list.push_back(as_integer(item, key, origin_));
  return list;
}

}  // namespace packlight::io
