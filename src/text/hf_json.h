#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace packlight::text {

// Typed access to the objects of a Hugging Face JSON file. Members that are null count as missing.
// Views live as long as the document. Errors: Corrupt, naming the file and the member, for a
// missing member or one of another type.
class HfObject {
 public:
  HfObject(const nlohmann::json* value, std::string_view origin) : value_(value), origin_(origin) {}

  std::string_view text(std::string_view key) const;
  std::string_view text(std::string_view key, std::string_view fallback) const;
  bool boolean(std::string_view key, bool fallback) const;
  double number(std::string_view key, double fallback) const;
  uint64_t unsigned_number(std::string_view key) const;
  std::vector<uint64_t> unsigned_numbers(std::string_view key) const;
  HfObject object(std::string_view key) const;
  // Missing gives nothing; another type is an error unless `or_other_type`.
  std::optional<HfObject> optional_object(std::string_view key, bool or_other_type = false) const;
  std::vector<HfObject> objects(std::string_view key) const;  // a missing list is empty
  // A string, or the "template" of the entry of a list whose "name" is `name`; empty when missing.
  std::string named_text(std::string_view key, std::string_view name) const;

  void each_member(std::string_view key,
                   const std::function<void(std::string_view, uint64_t)>& visit) const;
  // Entries "left right" or ["left", "right"].
  void each_merge(std::string_view key,
                  const std::function<void(std::string_view, std::string_view)>& visit) const;

 private:
  const nlohmann::json* find(std::string_view key) const;
  const nlohmann::json& need(std::string_view key) const;
  [[noreturn]] void wrong(std::string_view key, std::string_view wanted) const;

  const nlohmann::json* value_;
  std::string_view origin_;
};

// A parsed file. Not packlight::Json: its ordered objects take quadratic time at the size of a
// vocabulary.
class HfDocument {
 public:
  // Errors: Corrupt for what is no JSON object, or nests deeper than 100 levels.
  HfDocument(std::string_view text, std::string origin);
  HfObject root() const { return HfObject(&value_, origin_); }

 private:
  std::string origin_;
  nlohmann::json value_;
};

}  // namespace packlight::text
