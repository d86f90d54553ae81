#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "data/loader.h"
#include "eval/estimate.h"
#include "eval/network_subject.h"

namespace packlight::eval {

// How well a network does on labelled samples; what the samples' labels do not allow is absent.
struct TaskReport {
  int64_t samples = 0;
  std::optional<Estimate> top1,
      top5;  // classes: share of samples whose label is the largest (among the five largest) output
  std::optional<Estimate> sequence_accuracy;   // sequences: share read without a mistake (greedy
                                               // CTC, repetitions and blanks removed)
  std::optional<Estimate> mean_squared_error;  // vectors
  // With the original: same class, same reading. Absent where the output is no scores of classes:
  // those are [batch, classes], or [batch, time, classes] unless it lies in [0, 1] and its rows do
  // not sum to 1, as a map of probabilities does.
  std::optional<Estimate> agreement;
  // With the original, where there is no agreement and all values of both lie in [0, 1]: share of a
  // sample's values that are on the same side of 0.5, on average.
  std::optional<Estimate> same_side;
  std::optional<double> output_difference;  // with the original: root mean square of the outputs'
                                            // difference over that of the original's; absent where
                                            // shapes differ
  double seconds = 0;
};

struct TaskOptions {
  int64_t ctc_blank = 0;
  int64_t most_samples = 0;  // 0: all
  bool quiet = false;        // no progress bar
  // What the original reads of the samples in the loader's order (readings_of()), in its stead: for
  // `agreement` without running it again. Must outlive the call.
  const std::vector<std::vector<int64_t>>* original_readings = nullptr;
};

// The classes that a sequence of scores [time, classes] says: the best of every step, repetitions
// merged, blanks left out.
std::vector<int64_t> greedy_ctc(const at::Tensor& scores, int64_t blank);

// What a network says of each sample of the loader's first epoch: its class, or a sequence of them;
// empty where its output is no scores of classes. Errors: as evaluate_task().
std::vector<std::vector<int64_t>> readings_of(const NetworkSubject& network, data::Loader& loader,
                                              const TaskOptions& options);

// Runs the network (its first output counts) over the loader's first epoch. `original`, when given,
// runs on the same batches. Scores among which there is a NaN are no hit. Errors: those of data,
// exec, runtime; InvalidArgument when an output's shape does not fit the labels.
TaskReport evaluate_task(const NetworkSubject& network, const NetworkSubject* original,
                         data::Loader& loader, const TaskOptions& options);

}  // namespace packlight::eval
