#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "base/fail.h"
#include "exec/operators.h"

namespace packlight::exec {
namespace {

// The code before it is bounded.
at::Tensor raw_codes(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& zero) {
  return at::round(x / scale) + zero;
}

struct FakeQuantizeFunction : torch::autograd::Function<FakeQuantizeFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& scale, const at::Tensor& zero, double low,
                            double high) {
    context->save_for_backward({x, scale, zero});
    context->saved_data["low"] = low;
    context->saved_data["high"] = high;
    return (at::clamp(raw_codes(x, scale, zero), low, high) - zero) * scale;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &scale = saved[1], &zero = saved[2], &grad = grads[0];
    const double low = context->saved_data["low"].toDouble(),
                 high = context->saved_data["high"].toDouble();
    const at::Tensor raw = raw_codes(x, scale, zero);
    const at::Tensor outside = at::logical_or(raw<low, raw> high);
    at::Tensor dx, dscale;
    if (context->needs_input_grad(0)) dx = grad.masked_fill(outside, 0);
    if (context->needs_input_grad(1)) {
      const at::Tensor step =
          at::clamp(raw, low, high) - zero - (x / scale).masked_fill(outside, 0);
      dscale = (grad * step).sum_to_size(scale.sizes());
    }
    return {dx, dscale, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor fake_quantize(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& zero,
                         double low, double high) {
  if (!(low < high))
    fail(ErrorCode::kInvalidArgument, "codes from {} to {} are no range", low, high);
  return FakeQuantizeFunction::apply(x, scale, zero.to(x.scalar_type()), low, high);
}

}  // namespace packlight::exec
