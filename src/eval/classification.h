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
  std::optional<Estimate> agreement;  // with the original: same class, same reading; absent where
                                      // the outputs are not several scores a sample
  std::optional<double> output_difference;  // with the original: root mean square of the outputs'
                                            // difference over that of the original's; absent where
                                            // shapes differ
  double seconds = 0;
};

struct TaskOptions {
  int64_t ctc_blank = 0;
  int64_t most_samples = 0;  // 0: all
  bool quiet = false;        // no progress bar
};

// The classes that a sequence of scores [time, classes] says: the best of every step, repetitions
// merged, blanks left out.
std::vector<int64_t> greedy_ctc(const at::Tensor& scores, int64_t blank);

// Runs the network (its first output counts) over the loader's first epoch. `original`, when given,
// runs on the same batches. Scores among which there is a NaN are no hit. Errors: those of data,
// exec, runtime; InvalidArgument when an output's shape does not fit the labels.
TaskReport evaluate_task(const NetworkSubject& network, const NetworkSubject* original,
                         data::Loader& loader, const TaskOptions& options);

}  // namespace packlight::eval
