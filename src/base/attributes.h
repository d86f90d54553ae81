#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/fail.h"

namespace packlight::base {

// Named settings of an operator, each one of the kinds in `Kinds` (beside which int64_t, double,
// std::string and lists of them are always there). A map with readers that check the kind.
template <class... Kinds>
class Attributes
    : public std::map<std::string,
                      std::variant<int64_t, double, std::string, std::vector<int64_t>,
                                   std::vector<double>, std::vector<std::string>, Kinds...>> {
 public:
  using Map =
      std::map<std::string, std::variant<int64_t, double, std::string, std::vector<int64_t>,
                                         std::vector<double>, std::vector<std::string>, Kinds...>>;
  using Map::Map;

  // The value of that name; nullptr when there is none. Errors: Corrupt naming `owner` when it is
  // of another kind.
  template <class T>
  const T* get(std::string_view name, std::string_view owner, const char* kind) const {
    const auto it = this->find(std::string(name));
    if (it == this->end()) return nullptr;
    const T* value = std::get_if<T>(&it->second);
    if (value == nullptr)
      fail(ErrorCode::kCorrupt, "{}: attribute '{}' is not {}", owner, name, kind);
    return value;
  }

  int64_t integer(std::string_view name, int64_t fallback, std::string_view owner) const {
    const auto* value = get<int64_t>(name, owner, "an integer");
    return value != nullptr ? *value : fallback;
  }
  double number(std::string_view name, double fallback, std::string_view owner) const {
    const auto it = this->find(std::string(name));
    if (it != this->end() && std::holds_alternative<int64_t>(it->second))
      return static_cast<double>(std::get<int64_t>(it->second));
    const auto* value = get<double>(name, owner, "a number");
    return value != nullptr ? *value : fallback;
  }
  std::string text(std::string_view name, std::string_view fallback, std::string_view owner) const {
    const auto* value = get<std::string>(name, owner, "a string");
    return value != nullptr ? *value : std::string(fallback);
  }
  // Empty when absent.
  std::vector<int64_t> integers(std::string_view name, std::string_view owner) const {
    const auto* value = get<std::vector<int64_t>>(name, owner, "a list of integers");
    return value != nullptr ? *value : std::vector<int64_t>{};
  }
};

}  // namespace packlight::base
