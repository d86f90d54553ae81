#pragma once

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "exec/executor.h"
#include "exec/tensor_compare.h"
#include "graph/graph.h"
#include "packlight/error.h"

namespace packlight::test {

// The gradient that the executor gives for a graph, against differences of what the graph computes.
class GradientCheck {
 public:
  enum Verdict {
    kNothingToSay,  // no floats go in, or none come out, or every direction tried was across a kink
    kNone,          // autograd records nothing, or refuses to
    kZero,          // recorded, and right, and zero
    kRight,
  };

  // inputs: those of the graph, in order, as F32 or integers.
  GradientCheck(const graph::Graph& graph, std::vector<at::Tensor> inputs)
      : graph_(graph), inputs_(std::move(inputs)) {}

  // `wrong` says where a gradient differs from the differences.
  Verdict run(std::string& wrong) {
    if (!weighted_sum(inputs_, false).of_floats) return kNothingToSay;
    Verdict verdict = kNothingToSay;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      if (!inputs_[i].is_floating_point() || inputs_[i].numel() == 0) continue;
      const at::Tensor gradient = gradient_of(i);
      verdict = std::max(verdict, gradient.defined() ? compare(i, gradient, wrong) : kNone);
    }
    return verdict;
  }

 private:
  struct Sum {
    at::Tensor value;        // F64, of all float outputs times fixed noise
    double magnitude = 0;    // the sum of the terms' magnitudes
    bool of_floats = false;  // there is a float output
  };

  Sum weighted_sum(const std::vector<at::Tensor>& inputs, bool gradients) {
    exec::ExecOptions options;
    options.gradients = gradients;
    exec::Executor executor(graph_, options);
    std::unordered_map<std::string, at::Tensor> named;
    for (size_t i = 0; i < inputs.size(); ++i)
      named[graph_.value(graph_.inputs.at(i)).name] = inputs[i];
    const auto outputs = executor.run(named);
    Sum sum{at::zeros({}, at::kDouble)};
    for (size_t i = 0; i < graph_.outputs.size(); ++i) {
      const at::Tensor& out = outputs.at(graph_.value(graph_.outputs[i]).name);
      if (!out.is_floating_point() || out.numel() == 0) continue;
      const at::Tensor terms =
          out.to(at::kDouble) * noise(out.sizes().vec(), static_cast<int>(i)).to(at::kDouble);
      sum.value = sum.value + terms.sum();
      sum.magnitude += terms.detach().abs().sum().item<double>();
      sum.of_floats = true;
    }
    return sum;
  }

  // Of one input at a time: the statistics of a BatchNormalization, say, must not ask for one.
  // Undefined where there is none.
  at::Tensor gradient_of(size_t input) {
    std::vector<at::Tensor> inputs = inputs_;
    inputs[input] = inputs_[input].clone().requires_grad_(true);
    try {
      const at::Tensor sum = weighted_sum(inputs, true).value;
      if (!sum.requires_grad()) return {};
      sum.backward();
    } catch (const Error&) {
      return {};
    }
    const at::Tensor& gradient = inputs[input].grad();
    return gradient.defined() ? gradient.to(at::kDouble) : gradient;
  }

  double value_at(size_t input, const at::Tensor& moved) {
    std::vector<at::Tensor> inputs = inputs_;
    inputs[input] = moved.to(inputs_[input].scalar_type());
    return weighted_sum(inputs, false).value.item<double>();
  }

  // Along random directions, until one tells.
  Verdict compare(size_t input, const at::Tensor& gradient, std::string& wrong) {
    constexpr int kDirections = 12;
    const at::Tensor x = inputs_[input].to(at::kDouble);
    const Sum here = weighted_sum(inputs_, false);
    for (int i = 0; i < kDirections; ++i) {
      const double h = std::exp2(-5 - i % 6);
      const at::Tensor direction = noise(x.sizes().vec(), 100 + i).to(at::kDouble);
      const double far = (value_at(input, x + direction * h) - value_at(input, x - direction * h)) /
                         (2 * h),
                   ahead = value_at(input, x + direction * (h / 2)),
                   behind = value_at(input, x - direction * (h / 2)), near = (ahead - behind) / h,
                   at = here.value.item<double>();
      const at::Tensor terms = gradient * direction;
      const double got = terms.sum().item<double>(), size = terms.norm().item<double>();
      const double rounding = 16 * std::numeric_limits<float>::epsilon() * here.magnitude / h;
      const double bound = kAgreement * std::max(std::abs(near), size) + rounding;
      // Where differences of several lengths, or both sides', disagree there is no derivative.
      const bool smooth = std::abs(far - near) <= bound &&
                          std::abs(ahead + behind - 2 * at) / (h / 2) <= bound + rounding;
      if (!smooth || !std::isfinite(near)) continue;
      if (!(std::abs(near - got) <= bound)) {
        wrong = fmt::format("input {}: the gradient along a direction is {}, differences give {}",
                            input, got, near);
        return kRight;
      }
      if (size > rounding) return kRight;
      if (size == 0) return kZero;
    }
    return kNothingToSay;
  }

  static constexpr double kAgreement = 0.02;  // what curvature leaves between differences
  const graph::Graph& graph_;
  std::vector<at::Tensor> inputs_;
};

}  // namespace packlight::test
