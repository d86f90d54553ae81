#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/compress/calibration_data.h"
#include "data/augment.h"

namespace packlight::cli {

// What `quantize` takes for an ONNX network.
struct QuantizeNetworkFlags {
  // Given by the flags that language models have, too.
  std::string model, output, scheme, scale;
  std::vector<std::string> overrides;
  int64_t seed = 0;
  int threads = 1;
  bool json = false;

  CalibrationFlags calibration;
  std::string activations = "int8", observer = "minmax", first_last, sensitivity;
  int64_t adaround_iterations = 2000, opset = 17;
  int weight_bits = 0, activation_bits = 8;
  double percentile = 99.99;
  int64_t qat_epochs = 0, qat_observe = 1, qat_batch = 64, blank = 0;
  std::string qat_method = "lsq", optimizer = "sgd";
  double learning_rate = 0.01, weight_decay = 1e-4, temperature = 1;
  std::string correct_until, validation;
  int64_t validation_samples = 0;
  std::optional<double> smooth;
  bool opset_given = false, qat_distil = false, dynamic = false;
  data::Augment augment;
  bool per_tensor = false, regions = false, equalize = false, bias_correct = false,
       adaround = false;
};

// Adds the flags that only networks have, and returns their names.
std::vector<std::string> add_network_flags(CLI::App& verb, QuantizeNetworkFlags& flags);

// Refuses flags that would be without effect. Errors: InvalidArgument naming the flag and why.
void check_network_flags(const CLI::App& verb, const QuantizeNetworkFlags& flags);

// Folds and fuses what does not stand in the way of quantizing layer by layer.
void simplify_for_quantization(graph::Graph& graph);

// Quantizes an ONNX file and writes the result. Errors: those of quantize_network(), data, deploy;
// InvalidArgument for a budget that is not met, after the file was written.
void quantize_network_file(const QuantizeNetworkFlags& flags);

}  // namespace packlight::cli
