#include "text/hf_json.h"

#include "base/fail.h"
#include "text/shown.h"

namespace packlight::text {
namespace {

constexpr int kMaxDepth = 100;

// Counted before parsing, so that no later step can recurse deeper.
bool nests_too_deep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxDepth) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

}  // namespace

HfDocument::HfDocument(std::string_view text, std::string origin) : origin_(std::move(origin)) {
  if (nests_too_deep(text))
    fail(ErrorCode::kCorrupt, "[text] '{}': nested deeper than {} levels", origin_, kMaxDepth);
  try {
    value_ = nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorCode::kCorrupt, "[text] '{}': {}", origin_, shown(error.what(), 400));
  }
  if (!value_.is_object()) fail(ErrorCode::kCorrupt, "[text] '{}': no JSON object", origin_);
}

void HfObject::wrong(std::string_view key, std::string_view wanted) const {
  fail(ErrorCode::kCorrupt, "[text] '{}': '{}' is missing or no {}", origin_, key, wanted);
}

const nlohmann::json* HfObject::find(std::string_view key) const {
  const auto it = value_->find(std::string(key));
  return it == value_->end() || it->is_null() ? nullptr : &*it;
}

const nlohmann::json& HfObject::need(std::string_view key) const {
  const nlohmann::json* found = find(key);
  if (found == nullptr) wrong(key, "value");
  return *found;
}

std::string_view HfObject::text(std::string_view key) const {
  const nlohmann::json& found = need(key);
  if (!found.is_string()) wrong(key, "string");
  return found.get_ref<const std::string&>();
}

std::string_view HfObject::text(std::string_view key, std::string_view fallback) const {
  return find(key) == nullptr ? fallback : text(key);
}

bool HfObject::boolean(std::string_view key, bool fallback) const {
  const nlohmann::json* found = find(key);
  if (found == nullptr) return fallback;
  if (!found->is_boolean()) wrong(key, "true or false");
  return found->get<bool>();
}

double HfObject::number(std::string_view key, double fallback) const {
  const nlohmann::json* found = find(key);
  if (found == nullptr) return fallback;
  if (!found->is_number()) wrong(key, "number");
  return found->get<double>();
}

uint64_t HfObject::unsigned_number(std::string_view key) const {
  const nlohmann::json& found = need(key);
  if (!found.is_number_unsigned()) wrong(key, "unsigned integer");
  return found.get<uint64_t>();
}

std::vector<uint64_t> HfObject::unsigned_numbers(std::string_view key) const {
  const nlohmann::json& found = need(key);
  if (!found.is_array()) wrong(key, "list of unsigned integers");
  std::vector<uint64_t> out;
  for (const nlohmann::json& item : found) {
    if (!item.is_number_unsigned()) wrong(key, "list of unsigned integers");
    out.push_back(item.get<uint64_t>());
  }
  return out;
}

HfObject HfObject::object(std::string_view key) const {
  const nlohmann::json& found = need(key);
  if (!found.is_object()) wrong(key, "object");
  return HfObject(&found, origin_);
}

std::optional<HfObject> HfObject::optional_object(std::string_view key, bool or_other_type) const {
  const nlohmann::json* found = find(key);
  if (found == nullptr || (or_other_type && !found->is_object())) return std::nullopt;
  return object(key);
}

std::vector<HfObject> HfObject::objects(std::string_view key) const {
  std::vector<HfObject> out;
  const nlohmann::json* found = find(key);
  if (found == nullptr) return out;
  if (!found->is_array()) wrong(key, "list of objects");
  for (const nlohmann::json& item : *found) {
    if (!item.is_object()) wrong(key, "list of objects");
    out.emplace_back(&item, origin_);
  }
  return out;
}

std::string HfObject::named_text(std::string_view key, std::string_view name) const {
  const nlohmann::json* found = find(key);
  if (found == nullptr) return "";
  if (!found->is_array()) return std::string(text(key));
  for (const HfObject& entry : objects(key)) {
    if (entry.text("name") == name) return std::string(entry.text("template"));
  }
  return "";
}

void HfObject::each_member(std::string_view key,
                           const std::function<void(std::string_view, uint64_t)>& visit) const {
  const nlohmann::json& found = need(key);
  if (!found.is_object()) wrong(key, "object");
  for (const auto& entry : found.items()) {
    if (!entry.value().is_number_unsigned()) wrong(key, "object of unsigned integers");
    visit(entry.key(), entry.value().get<uint64_t>());
  }
}

void HfObject::each_merge(
    std::string_view key,
    const std::function<void(std::string_view, std::string_view)>& visit) const {
  const nlohmann::json& found = need(key);
  if (!found.is_array()) wrong(key, "list of merges");
  for (const nlohmann::json& item : found) {
    if (item.is_string()) {
      const std::string_view line = item.get_ref<const std::string&>();
      const size_t space = line.find(' ');
      if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
        wrong(key, "list of merges \"left right\"");
      }
      visit(line.substr(0, space), line.substr(space + 1));
    } else if (item.is_array() && item.size() == 2 && item[0].is_string() && item[1].is_string()) {
      visit(item[0].get_ref<const std::string&>(), item[1].get_ref<const std::string&>());
    } else {
      wrong(key, "list of merges");
    }
  }
}

}  // namespace packlight::text
