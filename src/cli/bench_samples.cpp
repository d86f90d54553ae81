#include "cli/bench_samples.h"

#include <algorithm>

namespace packlight::cli {

double Samples::median() const {
  std::vector<double> sorted = values;
  std::sort(sorted.begin(), sorted.end());
  const size_t n = sorted.size();
  return n == 0 ? 0 : (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
}

double Samples::min() const {
  return values.empty() ? 0 : *std::min_element(values.begin(), values.end());
}

double Samples::max() const {
  return values.empty() ? 0 : *std::max_element(values.begin(), values.end());
}

void add_samples(Json& json, const std::string& key, const Samples& samples, double unit) {
  json[key] = samples.median() / unit;
  json[key + "_min"] = samples.min() / unit;
  json[key + "_max"] = samples.max() / unit;
}

}  // namespace packlight::cli
