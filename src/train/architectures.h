#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace packlight::train {

struct ArchitectureOptions {
  int64_t channels = 1, height = 28, width = 28;  // of the input pictures
  int64_t classes = 10;
  double width_multiplier = 1;  // mobilenet, resnet8, resnet20: of every layer's channels; > 0
  std::vector<int64_t> hidden = {256, 128};  // mlp: neurons of the hidden layers
  uint64_t seed = 0;                         // of the initial weights
};

// The names that create_architecture() knows: mlp, lenet5, resnet8, resnet20, mobilenet.
std::vector<std::string_view> architecture_names();

// An untrained classifier of pictures as a graph.
//   input:  "input"  [batch, channels, height, width] F32
//   output: "logits" [batch, classes] F32, before softmax
//   mlp: Flatten, then Gemm and Relu for each hidden layer, then Gemm.
//   lenet5: LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998; differs:
//   Relu
//     and MaxPool, padding 2 in the first convolution.
//   resnet8: MLPerf Tiny's image classifier (arXiv:2106.07597): three stages of one block, 16, 32,
//   64 channels. resnet20: He et al. (arXiv:1512.03385) for CIFAR: three stages of three blocks;
//   projections where
//     shapes change.
//   mobilenet: MobileNetV1 (arXiv:1704.04861), with fewer halvings for pictures below 128 pixels.
// Weights: He et al.'s normal initialisation by fan-in; BatchNormalization starts as the identity.
// The same options give the same weights. Errors: InvalidArgument for an unknown name (lists the
// known ones), a size that is not positive, a picture too small for the network.
graph::Graph create_architecture(std::string_view name, const ArchitectureOptions& options);

}  // namespace packlight::train
