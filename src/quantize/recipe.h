#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "quantize/group_fit.h"
#include "quantize/scheme.h"

namespace packlight::quantize {

// Where calibration tokens came from. The tokens themselves are kept in the package beside the recipe.
struct CalibrationSource {
  enum class Kind { kNone, kText, kModel };  // abs-max needs none; a text file; text the model wrote itself
  Kind kind = Kind::kNone;
  std::string text_name;  // kText: the file's name without its folder
  std::string text_hash;  // kText: XXH3 of the whole file, hexadecimal
  int64_t tokens = 0;
  int64_t window = 0;     // tokens that see each other
};

// All that decides a package's codes and scales besides the model. Kept in the package as JSON, so that `verify --against`
// can do it again.
struct Recipe {
  io::WeightFormat body, head;
  std::vector<Override> overrides;
  ScaleMethod method = ScaleMethod::kSearch;
  uint64_t seed = 0;
  CalibrationSource calibration;
};

Json recipe_to_json(const Recipe& recipe);
// Errors: Corrupt naming `origin`, the key and the value.
Recipe recipe_from_json(const Json& json, std::string_view origin);

}  // namespace packlight::quantize
