#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "base/json.h"

namespace packlight::fuzz {

// Changes one thing of a JSON document that stays one.
class JsonMutator {
 public:
  explicit JsonMutator(uint32_t seed) : random_(seed) {}

  void mutate(Json& json) {
    collect(json);
    change(*places_[below(places_.size())]);
  }

 private:
  uint64_t below(uint64_t bound) { return random_() % bound; }

  void collect(Json& json) {
    places_.push_back(&json);
    if (!json.is_structured()) return;
    for (Json& inner : json) collect(inner);
  }

  void change(Json& json) {
    if (json.is_number_integer()) {
      constexpr int64_t kNotable[] = {
          0, 1, -1, 2, 3, 4, 5, 16, 64, 99, INT32_MAX, INT64_MAX, INT64_MIN, int64_t{1} << 40};
      json = below(2) == 0 ? Json(kNotable[below(std::size(kNotable))])
                           : Json(json.get<int64_t>() / 2 + static_cast<int64_t>(below(5)) - 2);
    } else if (json.is_array() && !json.empty() && below(3) != 0) {
      const auto at = static_cast<Json::difference_type>(below(json.size()));
      if (below(2) == 0) {
        json.erase(at);
      } else {
        const Json copy = json[below(json.size())];
        json.insert(json.begin() + at, copy);
      }
    } else if (json.is_object() && !json.empty() && below(2) == 0) {
      auto at = json.begin();
      std::advance(at, static_cast<std::ptrdiff_t>(below(json.size())));
      json.erase(at);
    } else {  // another part of the document, of the same kind where there is one
      for (int tries = 0; tries < 20; ++tries) {
        const Json& other = *places_[below(places_.size())];
        if (tries + 1 < 20 && other.type() != json.type()) continue;
        const Json copy = other;  // it may hold `json`
        json = copy;
        return;
      }
    }
  }

  std::minstd_rand random_;
  std::vector<Json*> places_;
};

}  // namespace packlight::fuzz
