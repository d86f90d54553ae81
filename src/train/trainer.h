#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "exec/executor.h"
#include "exec/piecewise_gradient.h"
#include "graph/graph.h"
#include "train/batch_norm.h"
#include "train/loss.h"
#include "train/optimizer.h"
#include "train/parameters.h"
#include "train/schedule.h"

namespace packlight::train {

struct TrainOptions {
  LossOptions loss;
  OptimizerOptions optimizer;
  Schedule schedule;       // total_steps must be set
  int64_t accumulate = 1;  // batches whose gradients are averaged for one optimizer step
  double clip_norm = 0;    // largest norm of all gradients together; 0: not limited
  // Of an exponential moving average of weights and running statistics, which is then the result;
  // 0: none. In optimizer step t (from 0) it is min(ema_decay, (1 + t) / (10 + t)).
  double ema_decay = 0;
  // Keeps only what is alive between blocks for the way back, and runs them again
  // (exec::PiecewiseGradient). Not for graphs with BatchNormalization or Dropout.
  bool recompute = false;
  bool freeze_bn = false;  // BatchNormalization keeps its running statistics, and uses them
  uint64_t seed = 0;       // of Dropout
};

// A batch as tensors: graph inputs by name, and what the first output is compared with.
struct Batch {
  std::unordered_map<std::string, at::Tensor> inputs;
  Target target;
};

// The value that a loss looks at: the graph's first output, or (but for kMse) the input of the
// Softmax or LogSoftmax over the last axis that makes it.
graph::ValueId loss_value_of(const graph::Graph& graph, LossKind kind);

// Trains a graph's weights in place. Zeros of pruned weights (graph::Value::zeros) stay. Knows no data set and no file: the caller feeds batches in an
// order that it can repeat, so that training goes on from a checkpoint with the same bits. Not
// thread-safe. LibTorch's thread count decides the order of sums: the same count gives the same
// result.
class Trainer {
 public:
  // `graph` must outlive the trainer. The loss looks at loss_value_of(). Errors: as
  // find_parameters(); InvalidArgument for options out of range.
  Trainer(graph::Graph& graph, const TrainOptions& options);
  // Trains these weights only, dense tensors of `graph`.
  Trainer(graph::Graph& graph, const TrainOptions& options, std::vector<Parameter> parameters);
  ~Trainer();

  // Gradients of one batch, and every `accumulate` batches an optimizer step. Returns the batch's
  // loss. Errors: those of exec and loss(); InvalidArgument when the loss is not finite (the
  // weights keep their last state); Interrupted before a batch, never in the middle of one.
  double train_on(const Batch& batch);

  // Uses `tensor`, of the same shape, for a weight that is no parameter; the graph keeps its own.
  void set_constant(graph::ValueId weight, at::Tensor tensor);
  // Sees every node's inputs in train_on(), before the node runs; null: nobody.
  void watch(exec::NodeObserver observer) { observer_ = std::move(observer); }

  int64_t batches_seen() const { return batches_; }
  int64_t steps_done() const { return step_; }
  double last_learning_rate() const { return learning_rate_; }
  // Mean loss of the batches since start_mean() (or the beginning); 0 before any. A part of
  // state().
  double mean_loss() const;
  void start_mean() { loss_sum_ = 0, losses_ = 0; }
  const std::vector<Parameter>& parameters() const { return parameters_; }
  // Whether the loss looks behind a final Softmax.
  bool looks_behind_softmax() const { return loss_value_ != graph_.outputs.at(0); }

  // Puts the trained weights and running statistics (their averages with ema_decay) into the graph,
  // in the weights' own dtypes. Training may go on afterwards.
  void store();

  // Everything that decides what comes next, as named tensors; restore() takes the same. Errors of
  // restore(): Corrupt when a tensor is missing or has another shape.
  std::vector<std::pair<std::string, at::Tensor>> state() const;
  void restore(const std::vector<std::pair<std::string, at::Tensor>>& state);

 private:
  exec::Values inputs_of(const Batch& batch) const;
  at::Tensor forward(const Batch& batch);
  // The loss, its gradients added to those of leaves_.
  double backward(const Batch& batch);
  void optimizer_step();
  void update_averages();

  graph::Graph& graph_;
  TrainOptions options_;
  std::vector<Parameter> parameters_;
  std::vector<at::Tensor> leaves_;    // beside parameters_: F32, with gradients
  std::vector<at::Tensor> averages_;  // beside leaves_ with ema_decay
  RunningStatistics statistics_;
  std::map<graph::ValueId, at::Tensor> average_statistics_;  // of statistics_, with ema_decay
  std::unique_ptr<Optimizer> optimizer_;
  std::vector<at::Tensor> masks_;  // beside leaves_: 0 where a pruned weight stays zero, or nothing
  std::unique_ptr<exec::Executor> executor_;
  std::unique_ptr<exec::PiecewiseGradient> pieces_;  // with recompute
  exec::NodeObserver observer_;
  graph::ValueId loss_value_;
  graph::NodeId last_node_;  // the loss needs the nodes before this one
  int64_t batches_ = 0, step_ = 0, pending_ = 0;
  double learning_rate_ = 0, loss_sum_ = 0;
  int64_t losses_ = 0;
};

// A checkpoint file (safetensors): Trainer::state() and a text by which the caller knows what it
// belongs to (recipe, data). Written aside and renamed, so that a killed run leaves the one before.
// Errors of load: NotFound, Io, Corrupt.
void save_checkpoint(const std::filesystem::path& path, const Trainer& trainer,
                     const std::string& identity);
struct Checkpoint {
  std::vector<std::pair<std::string, at::Tensor>> state;
  std::string identity;
};
Checkpoint load_checkpoint(const std::filesystem::path& path);

}  // namespace packlight::train
