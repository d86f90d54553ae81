#include "quantize/adaround.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <cmath>

#include "base/interrupt.h"

namespace packlight::quantize {
namespace {

constexpr double kZeta = 1.1, kGamma = -0.1;  // sigmoid stretched, so that h reaches 0 and 1

// Adam of one tensor, with its usual constants.
class Adam {
 public:
  Adam(const at::Tensor& like, double rate)
      : mean_(at::zeros_like(like)), square_(at::zeros_like(like)), rate_(rate) {}
  void step(at::Tensor& v, const at::Tensor& gradient) {
    ++steps_;
    mean_.mul_(0.9).add_(gradient, 0.1);
    square_.mul_(0.999).addcmul_(gradient, gradient, 0.001);
    const double first = 1 - std::pow(0.9, steps_), second = 1 - std::pow(0.999, steps_);
    v.addcdiv_(mean_, (square_ / second).sqrt_().add_(1e-8), -rate_ / first);
  }

 private:
  at::Tensor mean_, square_;
  double rate_;
  int steps_ = 0;
};

at::Tensor outputs(const AdaRoundProblem& p, const at::Tensor& x, const at::Tensor& weight) {
  const at::Tensor y = at::bmm(x, weight.transpose(1, 2));
  return p.bias.defined() ? y + p.bias : y;
}

// Differences of what the layer makes, and the gradient's mask, on some rows.
at::Tensor differences(const AdaRoundProblem& p, const at::Tensor& got, const at::Tensor& wanted) {
  const at::Tensor target = p.bias.defined() ? wanted + p.bias : wanted;
  return p.relu ? got.relu() - target.relu() : got - target;
}

double mean_error(const AdaRoundProblem& p, const at::Tensor& codes) {
  const at::Tensor got = outputs(p, p.x, codes * p.scale);
  return differences(p, got, p.wanted).square().to(at::kDouble).mean().item<double>();
}

double beta_at(double progress, const AdaRoundOptions& o) {
  const double t = (progress - o.warm_up) / (1 - o.warm_up);
  return o.last_beta + 0.5 * (o.first_beta - o.last_beta) * (1 + std::cos(t * M_PI));
}

}  // namespace

AdaRoundResult adaround(const AdaRoundProblem& p, const AdaRoundOptions& options) {
  const at::Tensor exact = p.weight / p.scale, floor = exact.floor();
  const auto clamped = [&](const at::Tensor& codes) {
    return at::clamp(codes, p.grid.low, p.grid.high);
  };
  const at::Tensor part = at::clamp(exact - floor, 1e-4, 1 - 1e-4);
  at::Tensor v = -((kZeta - kGamma) / (part - kGamma) - 1).log();  // h(v) = part
  Adam adam(v, options.learning_rate);
  auto generator = at::detail::createCPUGenerator(options.seed);
  const int64_t rows = p.x.size(1), batch = std::min(rows, options.batch_rows);
  for (int64_t i = 0; i < options.iterations; ++i) {
    base::check_interrupt();
    const at::Tensor indices = at::randint(rows, {batch}, generator, at::kLong);
    const at::Tensor x = p.x.index_select(1, indices), wanted = p.wanted.index_select(1, indices);
    const at::Tensor sigmoid = v.sigmoid(), stretched = sigmoid * (kZeta - kGamma) + kGamma;
    const at::Tensor h = at::clamp(stretched, 0, 1), codes = floor + h;
    const at::Tensor got = outputs(p, x, clamped(codes) * p.scale);
    at::Tensor dy = differences(p, got, wanted) * (2.0 / static_cast<double>(batch));
    if (p.relu) dy = dy * (got > 0);
    at::Tensor dh = at::bmm(dy.transpose(1, 2), x) * p.scale;
    dh = dh * at::logical_and(codes >= p.grid.low, codes <= p.grid.high);
    const double progress = static_cast<double>(i) / static_cast<double>(options.iterations);
    if (progress >= options.warm_up) {
      const double beta = beta_at(progress, options);
      const at::Tensor d = 2 * h - 1;
      dh = dh - d.sign() * d.abs().pow(beta - 1) * (2 * beta * options.regularization);
    }
    const at::Tensor moves = at::logical_and(stretched > 0, stretched < 1);
    adam.step(v, dh * sigmoid * (1 - sigmoid) * moves * (kZeta - kGamma));
  }
  const at::Tensor up = (v.sigmoid() * (kZeta - kGamma) + kGamma) >= 0.5;
  const at::Tensor learned = clamped(floor + up.to(at::kFloat)), nearest = clamped(exact.round());
  AdaRoundResult result;
  result.nearest_error = mean_error(p, nearest);
  result.error = mean_error(p, learned);
  const bool better = result.error < result.nearest_error;
  if (!better) result.error = result.nearest_error;
  result.codes = (better ? learned : nearest).to(at::kChar);
  return result;
}

}  // namespace packlight::quantize
