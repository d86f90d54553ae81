#include "train/trainer.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>

#include "base/fail.h"
#include "base/interrupt.h"
#include "graph/weight.h"

namespace packlight::train {
namespace {

void check(const TrainOptions& o) {
  const auto need = [](bool good, const char* what, double value, const char* rule) {
    if (!good)
      fail(ErrorCode::kInvalidArgument, "[train] {} is {}; it must be {}", what, value, rule);
  };
  need(o.schedule.peak > 0, "the learning rate", o.schedule.peak, "above 0");
  need(o.schedule.total_steps > 0, "the number of steps",
       static_cast<double>(o.schedule.total_steps), "above 0");
  need(o.accumulate > 0, "the number of accumulated batches", static_cast<double>(o.accumulate),
       "above 0");
  need(o.clip_norm >= 0, "the gradient norm's limit", o.clip_norm, "0 or above");
  need(o.ema_decay >= 0 && o.ema_decay < 1, "the average's decay", o.ema_decay,
       "from 0 to below 1");
  need(o.loss.label_smoothing >= 0 && o.loss.label_smoothing < 1, "label smoothing",
       o.loss.label_smoothing, "from 0 to below 1");
}

void refuse_recomputing(const graph::Graph& graph) {
  for (const graph::Node& node : graph.nodes()) {
    if (node.op == "BatchNormalization" || node.op == "Dropout")
      fail(ErrorCode::kUnsupported,
           "[train] node '{}' ({}) would see every batch twice when activations are computed again",
           node.name, node.op);
  }
}

at::Generator& dropout_generator() {
  static at::Generator generator = at::detail::getDefaultCPUGenerator();
  return generator;
}

}  // namespace

graph::ValueId loss_value_of(const graph::Graph& graph, LossKind kind) {
  const graph::ValueId output = graph.outputs.at(0);
  const graph::Value& value = graph.value(output);
  if (kind == LossKind::kMse || value.producer < 0) return output;
  const graph::Node& node = graph.node(value.producer);
  if (!node.domain.empty() || (node.op != "Softmax" && node.op != "LogSoftmax")) return output;
  const int64_t axis = node.integer("axis", -1);
  const bool last =
      axis == -1 || (value.shape && axis == static_cast<int64_t>(value.shape->size()) - 1);
  return last ? node.inputs[0] : output;
}

Trainer::Trainer(graph::Graph& graph, const TrainOptions& options)
    : Trainer(graph, options, find_parameters(graph)) {}

Trainer::Trainer(graph::Graph& graph, const TrainOptions& options,
                 std::vector<Parameter> parameters)
    : graph_(graph), options_(options), parameters_(std::move(parameters)), statistics_(graph) {
  check(options);
  loss_value_ = loss_value_of(graph, options.loss.kind);
  last_node_ = graph.value(loss_value_).producer + 1;
  exec::ExecOptions execution;
  execution.gradients = true;
  execution.training = true;
  execution.freeze_bn = options.freeze_bn;
  executor_ = std::make_unique<exec::Executor>(graph, execution);
  executor_->keep(loss_value_);
  std::vector<at::Tensor> decaying, others;
  for (const Parameter& parameter : parameters_) {
    at::Tensor leaf =
        exec::dense_weight(*graph.value(parameter.value).weight).clone().requires_grad_(true);
    executor_->set_parameter(parameter.value, leaf);
    if (const double factor = parameter.gradient_scale; factor != 1)
      leaf.register_hook([factor](const at::Tensor& gradient) { return gradient * factor; });
    (parameter.decays ? decaying : others).push_back(leaf);
    if (options.ema_decay > 0) averages_.push_back(leaf.detach().clone());
    masks_.push_back(graph.value(parameter.value).zeros ? leaf.detach().ne(0) : at::Tensor());
    leaves_.push_back(std::move(leaf));
  }
  if (options.ema_decay > 0) {
    for (const auto& [id, tensor] : statistics_.values()) average_statistics_[id] = tensor.clone();
  }
  optimizer_ = std::make_unique<Optimizer>(options.optimizer, decaying, others);
  if (options.recompute) {
    refuse_recomputing(graph);
    pieces_ = std::make_unique<exec::PiecewiseGradient>(graph, *executor_, loss_value_);
  }
  at::manual_seed(options.seed);
}

Trainer::~Trainer() = default;

exec::Values Trainer::inputs_of(const Batch& batch) const {
  exec::Values live;
  for (const graph::ValueId id : graph_.inputs) {
    const auto it = batch.inputs.find(graph_.value(id).name);
    if (it == batch.inputs.end())
      fail(ErrorCode::kInvalidArgument, "[train] the data has no values for graph input '{}'",
           graph_.value(id).name);
    live[id] = it->second;
  }
  return live;
}

at::Tensor Trainer::forward(const Batch& batch) {
  exec::Values live = inputs_of(batch);
  executor_->run_nodes(0, last_node_, live,
                       [this](const graph::Node& node, std::span<const at::Tensor> inputs) {
                         if (!options_.freeze_bn) statistics_.observe(node, inputs);
                         if (observer_) observer_(node, inputs);
                       });
  return live.at(loss_value_);
}

double Trainer::backward(const Batch& batch) {
  const auto scaled = [&](const at::Tensor& output) {
    return loss(options_.loss, output, batch.target) / static_cast<double>(options_.accumulate);
  };
  if (pieces_)
    return pieces_->run(inputs_of(batch), scaled) * static_cast<double>(options_.accumulate);
  const at::Tensor value = scaled(forward(batch));
  const double number = value.item<double>() * static_cast<double>(options_.accumulate);
  if (std::isfinite(number)) value.backward();
  return number;
}

double Trainer::train_on(const Batch& batch) {
  // A batch is done whole or not at all: running statistics and Dropout's generator move on in the
  // middle of it.
  base::check_interrupt();
  const base::FinishDespiteInterrupt whole;
  const c10::AutoGradMode gradients(true);
  const double number = backward(batch);
  if (!std::isfinite(number)) {
    fail(ErrorCode::kInvalidArgument,
         "[train] the loss is {} at batch {} (learning rate {}): lower the learning rate or limit "
         "the gradients' norm",
         number, batches_, learning_rate_);
  }
  ++batches_;
  loss_sum_ += number;
  ++losses_;
  if (++pending_ == options_.accumulate) optimizer_step();
  return number;
}

double Trainer::mean_loss() const {
  return losses_ > 0 ? loss_sum_ / static_cast<double>(losses_) : 0;
}

void Trainer::optimizer_step() {
  const c10::AutoGradMode no_gradients(false);
  if (options_.clip_norm > 0) {
    double squares = 0;
    for (const at::Tensor& leaf : leaves_) {
      if (leaf.grad().defined()) squares += leaf.grad().pow(2).sum().item<double>();
    }
    const double norm = std::sqrt(squares);
    if (norm > options_.clip_norm) {
      for (const at::Tensor& leaf : leaves_) {
        if (leaf.grad().defined()) leaf.grad().mul_(options_.clip_norm / norm);
      }
    }
  }
  learning_rate_ = learning_rate(options_.schedule, step_);
  optimizer_->step(learning_rate_);
  optimizer_->zero_gradients();
  for (size_t i = 0; i < leaves_.size(); ++i)
    if (std::isfinite(parameters_[i].least)) leaves_[i].clamp_min_(parameters_[i].least);
  for (size_t i = 0; i < leaves_.size(); ++i)
    if (masks_[i].defined()) leaves_[i].mul_(masks_[i]);
  if (options_.ema_decay > 0) update_averages();
  ++step_;
  pending_ = 0;
}

void Trainer::update_averages() {
  // A constant decay would leave a short run's average near the weights it began with.
  const auto t = static_cast<double>(step_);
  const double share = 1 - std::min(options_.ema_decay, (1 + t) / (10 + t));
  for (size_t i = 0; i < averages_.size(); ++i) averages_[i].lerp_(leaves_[i].detach(), share);
  for (auto& [id, average] : average_statistics_) average.lerp_(statistics_.values().at(id), share);
}

void Trainer::set_constant(graph::ValueId weight, at::Tensor tensor) {
  executor_->set_parameter(weight, std::move(tensor));
}

void Trainer::store() {
  const auto put = [this](graph::ValueId id, const at::Tensor& tensor) {
    const auto& old = std::get<at::Tensor>(*graph_.value(id).weight);
    graph_.value(id).weight =
        tensor.detach().to(old.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
  };
  for (size_t i = 0; i < parameters_.size(); ++i)
    put(parameters_[i].value, averages_.empty() ? leaves_[i] : averages_[i]);
  for (const auto& [id, tensor] : averages_.empty() ? statistics_.values() : average_statistics_)
    put(id, tensor);
}

std::vector<std::pair<std::string, at::Tensor>> Trainer::state() const {
  std::vector<std::pair<std::string, at::Tensor>> out;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    out.emplace_back("parameter." + parameters_[i].name, leaves_[i].detach());
    if (!averages_.empty()) out.emplace_back("average." + parameters_[i].name, averages_[i]);
    if (pending_ > 0 && leaves_[i].grad().defined())
      out.emplace_back("gradient." + parameters_[i].name, leaves_[i].grad());
  }
  for (const auto& [id, tensor] : statistics_.values())
    out.emplace_back("statistics." + graph_.value(id).name, tensor);
  for (const auto& [id, tensor] : average_statistics_)
    out.emplace_back("average_statistics." + graph_.value(id).name, tensor);
  for (const auto& [name, tensor] : optimizer_->state())
    out.emplace_back("optimizer." + name, tensor);
  out.emplace_back("counters", at::tensor({batches_, step_, pending_, losses_}, at::kLong));
  out.emplace_back("progress", at::tensor({loss_sum_, learning_rate_}, at::kDouble));
  out.emplace_back("generator", dropout_generator().get_state());
  return out;
}

void Trainer::restore(const std::vector<std::pair<std::string, at::Tensor>>& state) {
  const std::map<std::string, at::Tensor> by_name(state.begin(), state.end());
  const auto take = [&](const std::string& name, const at::Tensor& like) {
    const auto it = by_name.find(name);
    if (it == by_name.end() || it->second.sizes() != like.sizes())
      fail(ErrorCode::kCorrupt,
           "[train] the checkpoint's tensor '{}' is missing or has another shape", name);
    return it->second;
  };
  const c10::AutoGradMode no_gradients(false);
  const at::Tensor counters = take("counters", at::zeros({4}, at::kLong));
  const at::Tensor progress = take("progress", at::zeros({2}, at::kDouble));
  std::vector<std::pair<std::string, at::Tensor>> optimizer;
  for (const auto& [name, tensor] : state) {
    if (name.rfind("optimizer.", 0) == 0) optimizer.emplace_back(name.substr(10), tensor);
  }
  optimizer_->load_state(optimizer);
  for (size_t i = 0; i < parameters_.size(); ++i) {
    leaves_[i].copy_(take("parameter." + parameters_[i].name, leaves_[i]));
    if (!averages_.empty())
      averages_[i].copy_(take("average." + parameters_[i].name, averages_[i]));
    const auto gradient = by_name.find("gradient." + parameters_[i].name);
    if (gradient != by_name.end()) leaves_[i].mutable_grad() = gradient->second.clone();
  }
  for (const auto& [id, tensor] : statistics_.values())
    statistics_.set(id, take("statistics." + graph_.value(id).name, tensor).clone());
  for (auto& [id, average] : average_statistics_)
    average.copy_(take("average_statistics." + graph_.value(id).name, average));
  batches_ = counters[0].item<int64_t>();
  step_ = counters[1].item<int64_t>();
  pending_ = counters[2].item<int64_t>();
  losses_ = counters[3].item<int64_t>();
  loss_sum_ = progress[0].item<double>();
  learning_rate_ = progress[1].item<double>();
  dropout_generator().set_state(take("generator", dropout_generator().get_state()));
}

}  // namespace packlight::train
