#include "eval/classification.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iterator>
#include <span>

#include "base/fail.h"
#include "base/progress.h"
#include "exec/data_inputs.h"

namespace packlight::eval {
namespace {

// What an output says of each sample: a class, or a sequence of them.
struct Answers {
  at::Tensor scores;                           // [batch, classes] or [batch, time, classes]
  std::vector<std::vector<int64_t>> readings;  // [batch], empty when there are none
};

constexpr double kSumOfSoftmax = 0.02;  // that may be off 1: codes, and F16

bool in_unit_range(const at::Tensor& values) {
  return values.numel() > 0 && values.ge(0).logical_and(values.le(1)).all().item<bool>();
}

// Whether an output is scores of classes for so many samples. Rows of boxes and maps are not, nor
// is one number each.
bool is_scores_of(const at::Tensor& output, int64_t samples) {
  if (output.dim() < 2 || output.dim() > 3 || output.size(0) != samples || output.size(-1) < 2)
    return false;
  if (output.dim() == 2 || !in_unit_range(output)) return true;
  const at::Tensor sums = output.to(at::kDouble).sum(-1);
  return (sums - 1).abs().le(kSumOfSoftmax).all().item<bool>();
}

Answers answers_of(at::Tensor scores, int64_t samples, int64_t blank) {
  Answers answers{std::move(scores), {}};
  const at::Tensor& s = answers.scores;
  if (!is_scores_of(s, samples)) return answers;
  if (s.dim() == 3) {
    for (int64_t i = 0; i < s.size(0); ++i) answers.readings.push_back(greedy_ctc(s[i], blank));
  } else {
    const at::Tensor best = s.argmax(1);
    for (int64_t i = 0; i < s.size(0); ++i) answers.readings.push_back({best[i].item<int64_t>()});
  }
  return answers;
}

// The labels of the batch's first `samples`; a network may take whole batches only.
void cut_labels(data::Batch& batch, int64_t samples) {
  batch.indices.resize(samples);
  data::BatchLabels& labels = batch.labels;
  if (!labels.classes.empty()) labels.classes.resize(samples);
  if (!labels.lengths.empty()) labels.lengths.resize(samples);
  if (labels.kind != data::LabelKind::kVector) return;
  labels.vectors.bytes.resize(labels.vectors.bytes.size() / labels.vectors.shape[0] * samples);
  labels.vectors.shape[0] = samples;
}

class Counts {
 public:
  explicit Counts(const TaskOptions& options) : options_(options) {}

  void add(const data::Batch& batch, const Answers& mine) {
    samples_ += batch.size();
    switch (batch.labels.kind) {
      case data::LabelKind::kClass:
        return add_classes(batch, mine);
      case data::LabelKind::kSequence:
        return add_sequences(batch, mine);
      case data::LabelKind::kVector:
        return add_vectors(batch, mine);
      case data::LabelKind::kNone:
        return;
    }
  }

  void compare(const Answers& mine, const Answers& original) {
    compared_ = true;
    compare_readings(mine, original.readings);
    alike_ = alike_ && mine.scores.sizes() == original.scores.sizes();
    if (!alike_) return;
    difference_ += (mine.scores - original.scores).pow(2).sum().item<double>();
    norm_ += original.scores.pow(2).sum().item<double>();
    compare_sides(mine.scores, original.scores);
  }

  // With what an original said of these samples before.
  void compare(const Answers& mine, std::span<const std::vector<int64_t>> original) {
    compared_ = true;
    alike_ = false;
    compare_readings(mine, original);
  }

  int64_t samples() const { return samples_; }

  TaskReport report() const {
    TaskReport report;
    report.samples = samples_;
    if (classes_) report.top1 = share(top1_, samples_), report.top5 = share(top5_, samples_);
    if (sequences_) report.sequence_accuracy = share(read_, samples_);
    if (squares_.count() > 0) report.mean_squared_error = squares_.mean_x();
    if (compared_ && readable_) report.agreement = share(agreements_, samples_);
    if (compared_ && !readable_ && alike_ && unit_ && sides_.count() > 0)
      report.same_side = sides_.mean_x();
    if (compared_ && alike_) {
      report.output_difference =
          norm_ > 0 ? std::sqrt(difference_ / norm_) : std::sqrt(difference_);
    }
    return report;
  }

 private:
  void compare_readings(const Answers& mine, std::span<const std::vector<int64_t>> original) {
    readable_ = readable_ && !mine.readings.empty() && mine.readings.size() == original.size();
    for (size_t i = 0; readable_ && i < mine.readings.size(); ++i)
      agreements_ += mine.readings[i] == original[i];
  }

  void compare_sides(const at::Tensor& mine, const at::Tensor& original) {
    unit_ = unit_ && mine.dim() > 0 && in_unit_range(mine) && in_unit_range(original);
    if (!unit_) return;
    const at::Tensor same = mine.ge(0.5).eq(original.ge(0.5)).reshape({mine.size(0), -1});
    const at::Tensor shares = same.to(at::kDouble).mean(1);
    for (int64_t i = 0; i < shares.numel(); ++i) sides_.add(shares[i].item<double>());
  }

  void add_classes(const data::Batch& batch, const Answers& mine) {
    classes_ = true;
    if (mine.scores.dim() != 2 || mine.scores.size(0) != batch.size()) {
      fail(ErrorCode::kInvalidArgument,
           "[eval] labels are classes, but the output has shape [{}], not [batch, classes]",
           fmt::join(mine.scores.sizes().begin(), mine.scores.sizes().end(), ", "));
    }
    const at::Tensor labels = at::tensor(batch.labels.classes, at::kLong);
    if (labels.max().item<int64_t>() >= mine.scores.size(1)) {
      fail(ErrorCode::kInvalidArgument, "[eval] label {} is outside the {} classes of the output",
           labels.max().item<int64_t>(), mine.scores.size(1));
    }
    // Ties count as the first class of the equal ones, as argmax has it; in the five, as better
    // ones before it.
    const at::Tensor ordered = mine.scores.isnan().any(1).logical_not();
    top1_ += mine.scores.argmax(1).eq(labels).logical_and(ordered).sum().item<int64_t>();
    const at::Tensor own = mine.scores.gather(1, labels.unsqueeze(1));
    const at::Tensor among_five = (mine.scores > own).sum(1).lt(5);
    top5_ += among_five.logical_and(ordered).sum().item<int64_t>();
  }

  void add_sequences(const data::Batch& batch, const Answers& mine) {
    sequences_ = true;
    if (mine.scores.dim() != 3 || mine.scores.size(0) != batch.size()) {
      fail(ErrorCode::kInvalidArgument,
           "[eval] labels are sequences, but the output has shape [{}], not [batch, time, classes]",
           fmt::join(mine.scores.sizes().begin(), mine.scores.sizes().end(), ", "));
    }
    auto next = batch.labels.sequence.begin();
    for (int64_t i = 0; i < batch.size(); ++i) {
      const std::vector<int64_t> wanted(next, next + batch.labels.lengths[i]);
      next += batch.labels.lengths[i];
      read_ += !mine.readings.empty() && mine.readings[i] == wanted;
    }
  }

  void add_vectors(const data::Batch& batch, const Answers& mine) {
    const at::Tensor wanted = exec::to_tensor(batch.labels.vectors),
                     got = mine.scores.reshape({mine.scores.size(0), -1});
    if (got.sizes() != wanted.sizes()) {
      fail(ErrorCode::kInvalidArgument, "[eval] labels have shape {}, the output [{}]",
           data::shape_text(batch.labels.vectors.shape),
           fmt::join(mine.scores.sizes().begin(), mine.scores.sizes().end(), ", "));
    }
    const at::Tensor errors = (got - wanted).pow(2).mean(1);
    for (int64_t i = 0; i < errors.size(0); ++i) squares_.add(errors[i].item<double>());
  }

  const TaskOptions& options_;
  int64_t samples_ = 0, top1_ = 0, top5_ = 0, read_ = 0, agreements_ = 0;
  bool classes_ = false, sequences_ = false, compared_ = false;
  bool readable_ = true, alike_ = true, unit_ = true;  // of what was compared: every batch
  PairedMoments squares_, sides_;
  double difference_ = 0, norm_ = 0;
};

}  // namespace

std::vector<int64_t> greedy_ctc(const at::Tensor& scores, int64_t blank) {
  const at::Tensor best = scores.argmax(-1).contiguous();
  std::vector<int64_t> reading;
  int64_t last = blank;
  for (int64_t t = 0; t < best.numel(); ++t) {
    const int64_t label = best.data_ptr<int64_t>()[t];
    if (label != blank && label != last) reading.push_back(label);
    last = label;
  }
  return reading;
}

namespace {

// The answers for the first `counted` samples of a batch.
Answers answer(const NetworkSubject& one, const data::Batch& batch, int64_t counted,
               const TaskOptions& options) {
  const graph::Graph& graph = *one.graph;
  at::Tensor output =
      one.run(exec::input_tensors(graph, batch)).at(graph.value(graph.outputs.at(0)).name);
  if (output.dim() > 0 && output.size(0) == batch.size()) output = output.narrow(0, 0, counted);
  return answers_of(std::move(output), counted, options.ctc_blank);
}

// The loader's first epoch, batch by batch, with how many samples of each count.
void each_batch(data::Loader& loader, const TaskOptions& options,
                const std::function<void(data::Batch&, int64_t counted)>& use) {
  const int64_t all = loader.dataset().size();
  const int64_t total = options.most_samples > 0 ? std::min(options.most_samples, all) : all;
  base::Progress progress("Evaluating", total);
  progress.set_quiet(options.quiet);
  loader.start_epoch(0);
  for (int64_t seen = 0; seen < total;) {
    auto batch = loader.next();
    if (!batch) break;
    const int64_t counted = std::min(batch->size(), total - seen);
    use(*batch, counted);
    seen += counted;
    progress.advance(counted);
  }
}

}  // namespace

std::vector<std::vector<int64_t>> readings_of(const NetworkSubject& network, data::Loader& loader,
                                              const TaskOptions& options) {
  std::vector<std::vector<int64_t>> readings;
  bool readable = true;
  each_batch(loader, options, [&](data::Batch& batch, int64_t counted) {
    Answers answers = answer(network, batch, counted, options);
    readable = readable && !answers.readings.empty();
    std::move(answers.readings.begin(), answers.readings.end(), std::back_inserter(readings));
  });
  if (!readable) readings.clear();
  return readings;
}

TaskReport evaluate_task(const NetworkSubject& network, const NetworkSubject* original,
                         data::Loader& loader, const TaskOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  Counts counts(options);
  each_batch(loader, options, [&](data::Batch& batch, int64_t counted) {
    const Answers mine = answer(network, batch, counted, options);
    if (original != nullptr) counts.compare(mine, answer(*original, batch, counted, options));
    if (const auto* kept = options.original_readings) {
      const size_t from = std::min<size_t>(counts.samples(), kept->size());
      counts.compare(
          mine, std::span(*kept).subspan(from, std::min<size_t>(counted, kept->size() - from)));
    }
    cut_labels(batch, counted);
    counts.add(batch, mine);
  });
  TaskReport report = counts.report();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace packlight::eval
