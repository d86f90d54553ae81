#include "train/optimizer.h"

#include <torch/optim.h>

#include <array>
#include <map>

#include "base/fail.h"

namespace packlight::train {

struct Optimizer::Impl {
  std::unique_ptr<torch::optim::Optimizer> optimizer;
  bool adamw = false;
  std::vector<at::Tensor> parameters;  // in the order of state()'s names

  // Calls use(name, tensor, set) for every tensor of the state of parameter `index` (an undefined
  // one: not made yet).
  template <class Use>
  void each(size_t index, const Use& use) const;
};

namespace {

using torch::optim::AdamWOptions;
using torch::optim::AdamWParamState;
using torch::optim::OptimizerParamGroup;
using torch::optim::SGDOptions;
using torch::optim::SGDParamState;

std::string key_of(const at::Tensor& parameter) {
  return c10::guts::to_string(parameter.unsafeGetTensorImpl());
}

// The states exist from the start, so that saving and loading need no case for the first step.
void make_states(torch::optim::Optimizer& optimizer, bool adamw,
                 const std::vector<at::Tensor>& parameters) {
  for (const at::Tensor& parameter : parameters) {
    if (adamw) {
      auto state = std::make_unique<AdamWParamState>();
      state->step(0);
      state->exp_avg(torch::zeros_like(parameter).detach());
      state->exp_avg_sq(torch::zeros_like(parameter).detach());
      optimizer.state()[key_of(parameter)] = std::move(state);
    } else {
      auto state = std::make_unique<SGDParamState>();
      state->momentum_buffer(torch::zeros_like(parameter).detach());
      optimizer.state()[key_of(parameter)] = std::move(state);
    }
  }
}

}  // namespace

OptimizerOptions::Kind parse_optimizer(std::string_view name) {
  if (name == "sgd") return OptimizerOptions::Kind::kSgd;
  if (name == "adamw") return OptimizerOptions::Kind::kAdamW;
  fail(ErrorCode::kInvalidArgument, "[train] there is no optimizer '{}'; there are sgd, adamw",
       name);
}

Optimizer::Optimizer(const OptimizerOptions& options, const std::vector<at::Tensor>& decaying,
                     const std::vector<at::Tensor>& others)
    : impl_(std::make_unique<Impl>()) {
  impl_->adamw = options.kind == OptimizerOptions::Kind::kAdamW;
  impl_->parameters = decaying;
  impl_->parameters.insert(impl_->parameters.end(), others.begin(), others.end());
  const auto group = [&](const std::vector<at::Tensor>& tensors, double decay) {
    if (impl_->adamw) {
      auto settings = std::make_unique<AdamWOptions>(1.0);
      settings->betas({options.beta1, options.beta2}).eps(options.epsilon).weight_decay(decay);
      return OptimizerParamGroup(tensors, std::move(settings));
    }
    auto settings = std::make_unique<SGDOptions>(1.0);
    settings->momentum(options.momentum).nesterov(options.momentum > 0).weight_decay(decay);
    return OptimizerParamGroup(tensors, std::move(settings));
  };
  std::vector<OptimizerParamGroup> groups;
  if (!decaying.empty()) groups.push_back(group(decaying, options.weight_decay));
  if (!others.empty()) groups.push_back(group(others, 0));
  if (impl_->adamw) {
    impl_->optimizer = std::make_unique<torch::optim::AdamW>(std::move(groups), AdamWOptions(1.0));
  } else {
    impl_->optimizer = std::make_unique<torch::optim::SGD>(std::move(groups), SGDOptions(1.0));
  }
  make_states(*impl_->optimizer, impl_->adamw, impl_->parameters);
}

Optimizer::~Optimizer() = default;

void Optimizer::step(double learning_rate) {
  for (auto& group : impl_->optimizer->param_groups()) {
    if (impl_->adamw) {
      static_cast<AdamWOptions&>(group.options()).lr(learning_rate);
    } else {
      static_cast<SGDOptions&>(group.options()).lr(learning_rate);
    }
  }
  impl_->optimizer->step();
}

void Optimizer::zero_gradients() { impl_->optimizer->zero_grad(); }

template <class Use>
void Optimizer::Impl::each(size_t index, const Use& use) const {
  auto& slot = *optimizer->state()[key_of(parameters[index])];
  const std::string prefix = std::to_string(index) + ".";
  if (adamw) {
    auto& state = static_cast<AdamWParamState&>(slot);
    use(prefix + "step", at::scalar_tensor(state.step(), at::kLong),
        [&](const at::Tensor& t) { state.step(t.item<int64_t>()); });
    use(prefix + "exp_avg", state.exp_avg(), [&](const at::Tensor& t) { state.exp_avg(t); });
    use(prefix + "exp_avg_sq", state.exp_avg_sq(),
        [&](const at::Tensor& t) { state.exp_avg_sq(t); });
  } else {
    auto& state = static_cast<SGDParamState&>(slot);
    use(prefix + "momentum", state.momentum_buffer(),
        [&](const at::Tensor& t) { state.momentum_buffer(t); });
  }
}

std::vector<std::pair<std::string, at::Tensor>> Optimizer::state() const {
  std::vector<std::pair<std::string, at::Tensor>> out;
  for (size_t i = 0; i < impl_->parameters.size(); ++i) {
    impl_->each(i, [&](const std::string& name, const at::Tensor& tensor, const auto&) {
      out.emplace_back(name, tensor);
    });
  }
  return out;
}

void Optimizer::load_state(const std::vector<std::pair<std::string, at::Tensor>>& state) {
  const std::map<std::string, at::Tensor> by_name(state.begin(), state.end());
  for (size_t i = 0; i < impl_->parameters.size(); ++i) {
    impl_->each(i, [&](const std::string& name, const at::Tensor& tensor, const auto& set) {
      const auto it = by_name.find(name);
      if (it == by_name.end() || it->second.sizes() != tensor.sizes()) {
        fail(ErrorCode::kCorrupt,
             "[train] the checkpoint's optimizer state '{}' is missing or has another shape", name);
      }
      set(it->second.clone());
    });
  }
}

}  // namespace packlight::train
