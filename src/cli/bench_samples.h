#pragma once

#include <string>
#include <vector>

#include "base/json.h"

namespace packlight::cli {

// One quantity, measured several times.
struct Samples {
  std::vector<double> values;
  double median() const;
  double min() const;
  double max() const;
};

// KEY (the median), KEY_min and KEY_max, divided by `unit`.
void add_samples(Json& json, const std::string& key, const Samples& samples, double unit);

}  // namespace packlight::cli
