#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace packlight::train {

struct OptimizerOptions {
  enum class Kind { kSgd, kAdamW };
  Kind kind = Kind::kSgd;
  double momentum = 0.9;                              // kSgd: Nesterov when above 0
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;  // kAdamW (arXiv:1711.05101)
  double weight_decay = 5e-4;                         // of parameters that decay
};

// "sgd", "adamw". Errors: InvalidArgument naming the word and the known ones.
OptimizerOptions::Kind parse_optimizer(std::string_view name);

// LibTorch's SGD or AdamW over leaf tensors. Not thread-safe.
class Optimizer {
 public:
  // The tensors are changed in place by step().
  Optimizer(const OptimizerOptions& options, const std::vector<at::Tensor>& decaying,
            const std::vector<at::Tensor>& others);
  ~Optimizer();

  void step(double learning_rate);
  void zero_gradients();

  // Everything that decides the next step besides the parameters, as named tensors: what a
  // checkpoint keeps. Loading takes the same names. Errors: Corrupt when one is missing or has
  // another shape.
  std::vector<std::pair<std::string, at::Tensor>> state() const;
  void load_state(const std::vector<std::pair<std::string, at::Tensor>>& state);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace packlight::train
