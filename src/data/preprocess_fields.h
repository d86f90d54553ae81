#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/preprocess.h"

namespace packlight::data {

// One key of a Preprocess with its value, from a file of any format.
struct PreprocessField {
  std::string place;  // for errors: "'m.yaml' line 3"
  std::string key;
  std::string text;  // the value as the file has it, for errors
  bool is_list = false;
  std::string word;                            // of a single value
  std::vector<std::optional<double>> numbers;  // of a single value or a list's first elements (4
                                               // or more): absent where it is no finite number

  [[noreturn]] void refuse(std::string_view rule) const;
};

// Errors: InvalidArgument naming place, key, value and rule.
void set_field(Preprocess& spec, const PreprocessField& field);

// What the fields must be together. Errors: InvalidArgument naming `origin`.
void check_together(const Preprocess& spec, const std::string& origin);

}  // namespace packlight::data
