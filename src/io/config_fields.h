#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace packlight::io {

// Typed access to the fields of a JSON object; every error is Corrupt and names `origin`, key and
// rule. A null counts as absent, as Hugging Face writes it.
class ConfigFields {
 public:
  // Errors: Corrupt when `object` is no JSON object.
  ConfigFields(const Json& object, std::string_view origin);

  const Json* find(std::string_view key) const;  // null when absent
  bool has(std::string_view key) const { return find(key) != nullptr; }
  bool mentions(std::string_view key) const { return object_.contains(key); }  // null counts here
  int64_t integer(std::string_view key) const;
  int64_t integer(std::string_view key, int64_t fallback) const;
  double number(std::string_view key, double fallback) const;
  bool boolean(std::string_view key, bool fallback) const;
  std::string text(std::string_view key, std::string_view fallback) const;
  // An integer or a list of integers; empty when absent.
  std::vector<int64_t> integers(std::string_view key) const;
  std::string_view origin() const { return origin_; }

 private:
  const Json& object_;
  std::string_view origin_;
};

}  // namespace packlight::io
