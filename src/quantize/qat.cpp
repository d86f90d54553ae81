#include "quantize/qat.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>
#include <unordered_map>

#include "base/fail.h"
#include "base/progress.h"
#include "exec/executor.h"

namespace packlight::quantize {
namespace {

using graph::Graph;
using graph::Node;
using graph::ValueId;

// Learned scales keep above this share of what they start from.
constexpr double kLeastScale = 1e-3;

at::Tensor& trained_tensor(Graph& graph, ValueId id) {
  return std::get<at::Tensor>(*graph.value(id).weight);
}

void check_training(const QatOptions& options, const TrainingData& data) {
  if (options.epochs < 1 || options.observe_epochs < 0 || options.temperature <= 0) {
    fail(ErrorCode::kInvalidArgument,
         "[quantize] training: {} epochs, {} of them observed, temperature {}; they must be at "
         "least 1, at least 0 and above 0",
         options.epochs, options.observe_epochs, options.temperature);
  }
  if (data.batches < 1)
    fail(ErrorCode::kInvalidArgument, "[quantize] training: there are no samples to train on");
}

// How many numbers of one sample each group of activations is the scale of.
std::map<int, int64_t> features_of(const TrainingForm& form, const calib::Batches& batches) {
  std::unordered_map<const Node*, int> group_at;
  for (const auto& [group, activation] : form.activations)
    for (const graph::NodeId id : activation.quantizers) group_at[&form.graph.node(id)] = group;
  std::map<int, int64_t> features;
  exec::Executor executor(form.graph);
  batches([&](const calib::Inputs& inputs) {
    const int64_t samples = std::max<int64_t>(1, calib::sample_count(inputs));
    executor.run(inputs, [&](const Node& node, std::span<const at::Tensor> values) {
      if (const auto it = group_at.find(&node); it != group_at.end())
        features[it->second] += std::max<int64_t>(1, values[0].numel() / samples);
    });
    return false;
  });
  return features;
}

// The float network up to what the loss looks at.
class Teacher {
 public:
  explicit Teacher(const Graph& graph)
      : graph_(graph), value_(train::loss_value_of(graph, train::LossKind::kKl)), executor_(graph) {
    executor_.keep(value_);
  }
  at::Tensor operator()(const calib::Inputs& inputs) {
    exec::Values live;
    for (const ValueId id : graph_.inputs) live[id] = inputs.at(graph_.value(id).name);
    executor_.run_nodes(0, graph_.value(value_).producer + 1, live);
    return live.at(value_);
  }

 private:
  const Graph& graph_;
  ValueId value_;
  exec::Executor executor_;
};

class QuantizedTraining {
 public:
  QuantizedTraining(const Graph& original, TrainingForm& form, const ActivationPlan& plan,
                    const std::map<size_t, WeightCodes>& weights,
                    const std::vector<calib::CodeParameters>& groups, ScaleMethod scales,
                    const QatOptions& options, const TrainingData& data)
      : form_(form),
        plan_(plan),
        weights_(weights),
        groups_(groups),
        scales_(scales),
        options_(options),
        data_(data) {
    if (data.loss.kind == train::LossKind::kKl) teacher_.emplace(original);
  }

  QatReport run(const calib::Batches& batches) {
    const auto start = std::chrono::steady_clock::now();
    train::Trainer trainer(form_.graph, train_options(), parameters(batches));
    if (options_.method == QatMethod::kSte && options_.observe_epochs > 0) observe(trainer);
    QatReport report;
    for (int64_t epoch = 0; epoch < options_.epochs; ++epoch) {
      report.losses.push_back(run_epoch(trainer, epoch));
      if (options_.method == QatMethod::kSte && epoch < options_.observe_epochs)
        choose_weight_scales(trainer);
      if (epoch + 1 == options_.observe_epochs) freeze_observers(trainer);
    }
    trainer.store();
    report.steps = trainer.steps_done();
    report.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return report;
  }

 private:
  using Observers = std::vector<std::unique_ptr<calib::Observer>>;  // beside a group's quantizers

  train::TrainOptions train_options() const {
    train::TrainOptions options;
    options.loss = data_.loss;
    options.loss.temperature = options_.temperature;
    options.optimizer = options_.optimizer;
    options.schedule.peak = options_.learning_rate;
    options.schedule.total_steps = options_.epochs * data_.batches;
    options.freeze_bn = true;
    options.seed = options_.seed;
    return options;
  }

  std::vector<train::Parameter> parameters(const calib::Batches& batches) {
    std::vector<train::Parameter> all = train::find_any_parameters(form_.graph);
    const auto add = [&](ValueId id, bool decays) -> train::Parameter& {
      all.push_back({id, form_.graph.value(id).name, decays});
      return all.back();
    };
    for (const auto& weight : form_.weights) add(weight.master, true);
    if (options_.method != QatMethod::kLsq) return all;
    const auto learned = [&](ValueId id, double numbers, int64_t largest_code) {
      train::Parameter& parameter = add(id, false);
      parameter.gradient_scale = 1 / std::sqrt(numbers * static_cast<double>(largest_code));
      parameter.least = kLeastScale * trained_tensor(form_.graph, id).min().item<double>();
    };
    for (const auto& weight : form_.weights) {
      const WeightCodes& codes = weights_.at(weight.layers[0]);
      learned(weight.scales,
              static_cast<double>(codes.codes.numel()) / static_cast<double>(codes.scales.numel()),
              weight_grid(codes.bits).high);
    }
    for (const auto& [group, numbers] : features_of(form_, batches))
      learned(form_.activations.at(group).scale, static_cast<double>(numbers),
              groups_[group].high_code);
    return all;
  }

  double run_epoch(train::Trainer& trainer, int64_t epoch) {
    base::Progress progress(fmt::format("Training epoch {} of {}", epoch + 1, options_.epochs),
                            data_.batches);
    progress.set_quiet(options_.quiet);
    double sum = 0;
    int64_t count = 0;
    data_.each(epoch, [&](train::Batch batch) {
      if (teacher_) batch.target.values = (*teacher_)(batch.inputs);
      sum += trainer.train_on(batch);
      ++count;
      for (const auto& [group, members] : observers_) use_range(trainer, group, members);
      progress.advance();
    });
    const double loss = sum / static_cast<double>(std::max<int64_t>(1, count));
    if (!options_.quiet)
      std::fprintf(stderr, "epoch %lld: loss %.4f, learning rate %.3g\n",
                   static_cast<long long>(epoch + 1), loss, trainer.last_learning_rate());
    return loss;
  }

  void observe(train::Trainer& trainer) {
    std::unordered_map<const Node*, calib::Observer*> watched;
    for (const auto& [group, activation] : form_.activations) {
      // One a member: an average over wide and narrow members would cut off the wide ones.
      for (const graph::NodeId id : activation.quantizers) {
        observers_[group].push_back(calib::make_observer(calib::ObserverKind::kMovingAverage));
        watched[&form_.graph.node(id)] = observers_[group].back().get();
      }
    }
    trainer.watch([watched](const Node& node, std::span<const at::Tensor> inputs) {
      const auto it = watched.find(&node);
      if (it == watched.end() || inputs[0].numel() == 0) return;
      const at::Tensor x = inputs[0].detach();
      const auto [low, high] = at::aminmax(x);
      it->second->observe(x, {low.item<float>(), high.item<float>()});
    });
  }

  // The group's range is that of its widest members, as after calibration.
  void use_range(train::Trainer& trainer, int group, const Observers& members) {
    const auto& activation = form_.activations.at(group);
    const at::Tensor zero = trained_tensor(form_.graph, activation.zero_point);
    const calib::CodeGrid grid{plan_.group_bits[group], groups_[group].low_code < 0};
    calib::Range range;
    for (const auto& member : members) {
      const calib::Range own = member->range(grid);
      range = {std::min(range.low, own.low), std::max(range.high, own.high)};
    }
    const calib::CodeParameters p = calib::code_parameters(range, grid);
    set_constant(trainer, activation.scale, at::scalar_tensor(p.scale, at::kFloat));
    set_constant(trainer, activation.zero_point,
                 at::scalar_tensor(p.zero_point, zero.scalar_type()));
  }

  void choose_weight_scales(train::Trainer& trainer) {
    trainer.store();
    for (const auto& weight : form_.weights) {
      const WeightCodes& old = weights_.at(weight.layers[0]);
      const WeightRounding rounding{old.bits, old.scales.dim() == 0, scales_};
      set_constant(
          trainer, weight.scales,
          round_weight(trained_tensor(form_.graph, weight.master), old.axis, rounding).scales);
    }
  }

  void set_constant(train::Trainer& trainer, ValueId id, const at::Tensor& tensor) {
    form_.graph.value(id).weight = tensor;
    trainer.set_constant(id, tensor);
  }

  void freeze_observers(train::Trainer& trainer) {
    trainer.watch(nullptr);
    observers_.clear();
  }

  TrainingForm& form_;
  const ActivationPlan& plan_;
  const std::map<size_t, WeightCodes>& weights_;
  const std::vector<calib::CodeParameters>& groups_;
  ScaleMethod scales_;
  const QatOptions& options_;
  const TrainingData& data_;
  std::optional<Teacher> teacher_;
  std::map<int, Observers> observers_;  // kSte, by group
};

}  // namespace

QatReport train_quantized(const Graph& original, TrainingForm& form, const ActivationPlan& plan,
                          const std::map<size_t, WeightCodes>& weights,
                          const std::vector<calib::CodeParameters>& groups, ScaleMethod scales,
                          const calib::Batches& batches, const QatOptions& options,
                          const TrainingData& data) {
  check_training(options, data);
  return QuantizedTraining(original, form, plan, weights, groups, scales, options, data)
      .run(batches);
}

Json options_to_json(const QatOptions& options) {
  Json json = {{"method", options.method == QatMethod::kLsq ? "lsq" : "ste"},
               {"epochs", options.epochs},
               {"optimizer",
                options.optimizer.kind == train::OptimizerOptions::Kind::kSgd ? "sgd" : "adamw"},
               {"learning_rate", options.learning_rate},
               {"weight_decay", options.optimizer.weight_decay},
               {"seed", options.seed}};
  if (options.method == QatMethod::kSte) json["observe_epochs"] = options.observe_epochs;
  return json;
}

}  // namespace packlight::quantize
