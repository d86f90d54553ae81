#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "calib/activation_ranges.h"
#include "graph/graph.h"

namespace packlight::quantize {

// Signal-to-quantization-noise ratio, in dB: 10 log10(sum y^2 / sum (y - y')^2), y' the quantized
// network's value, y the float one's; infinite where they are equal. Elements that are the same NaN
// or infinity in both count as equal; one that is not finite in y or y' alone, and a shape that
// differs, make the ratio -infinity. By value name, over the first `samples` calibration samples.
// Values that only one of the networks has are left out. Memory: one batch's run of both networks
// with all `values` kept.
std::unordered_map<std::string, double> signal_to_noise(const graph::Graph& original,
                                                        const graph::Graph& quantized,
                                                        const std::vector<std::string>& values,
                                                        const calib::Batches& batches,
                                                        int64_t samples);

// The least ratio of the network's outputs. Errors: InvalidArgument when there is none to compare.
double output_signal_to_noise(const graph::Graph& original, const graph::Graph& quantized,
                              const calib::Batches& batches, int64_t samples);

}  // namespace packlight::quantize
