#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/compress/calibration_data.h"

namespace packlight::cli {

// `prune --method structured` and its kin: whole channels, neurons, heads.
struct StructuredFlags {
  std::string model, output, method;
  std::optional<double> ratio;
  std::string criterion = "obs", spread = "global", repair = "obs";
  std::vector<std::string> protect, input_shapes;
  std::optional<int64_t> target_params, target_bytes, target_macs;
  int64_t multiple = 0, least = 1, opset = 17, seed = 0;
  CalibrationFlags calibration;
  bool json = false;
};

// Prunes a network and writes it as ONNX or as a package, by the output's name. Errors: those of
// prune::prune_structured() and of the writers; InvalidArgument for flags that have no effect
// together.
void prune_network_file(const StructuredFlags& flags);

}  // namespace packlight::cli
