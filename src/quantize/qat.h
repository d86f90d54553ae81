#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "calib/activation_ranges.h"
#include "quantize/training_form.h"
#include "train/trainer.h"

namespace packlight::quantize {

enum class QatMethod : uint8_t {
  // Scales of weights and activations are learned, the gradient of each multiplied by
  // 1 / sqrt(N * Qp): N how many numbers it is the scale of (a sample's, for activations), Qp the
  // largest code. Source: Esser et al. 2020, "Learned Step Size Quantization" (arXiv:1902.08153).
  // It starts from the scales found after training instead of 2 mean|w| / sqrt(Qp).
  kLsq,
  // Scales follow what is seen and are frozen after the first epochs: those of activations a moving
  // average of the range in each batch (a group's: that of its widest members), those of weights
  // chosen anew after each epoch.
  kSte,
};

struct QatOptions {
  QatMethod method = QatMethod::kLsq;
  int64_t epochs = 3;          // >= 1
  int64_t observe_epochs = 1;  // kSte: after which scales are frozen, >= 0
  train::OptimizerOptions optimizer{.weight_decay = 1e-4};
  double learning_rate = 0.01;  // at first; falls along half a cosine
  double temperature = 1;       // of the teacher's distribution (train::LossKind::kKl)
  uint64_t seed = 0;
  bool quiet = false;  // no progress bar, no line an epoch
};
Json options_to_json(const QatOptions& options);

struct TrainingData {
  int64_t batches = 0;  // of an epoch
  // kKl: the float network's outputs are what batches are compared with; batches bring no target.
  train::LossOptions loss;
  // Calls `use` with an epoch's batches in an order that depends on its number only.
  std::function<void(int64_t epoch, const std::function<void(train::Batch)>& use)> each;
};

struct QatReport {
  std::vector<double> losses;  // mean of each epoch
  int64_t steps = 0;
  double seconds = 0;
};

// Quantization-aware training: trains the form's weights through rounding, whose gradient is passed
// straight through within the range of the codes (arXiv:1308.3432). BatchNormalization that is no
// part of a layer keeps its running statistics. `batches`: a first batch tells how many numbers a
// sample's activations have. The form then holds the result (freeze() ships it).
// Same data, options and thread count: the same result. Errors: InvalidArgument for options out of
// range or a loss that is not finite; Interrupted.
QatReport train_quantized(const graph::Graph& original, TrainingForm& form,
                          const ActivationPlan& plan, const std::map<size_t, WeightCodes>& weights,
                          const std::vector<calib::CodeParameters>& groups, ScaleMethod scales,
                          const calib::Batches& batches, const QatOptions& options,
                          const TrainingData& data);

}  // namespace packlight::quantize
