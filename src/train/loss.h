#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

namespace packlight::train {

enum class LossKind { kCrossEntropy, kMse, kKl, kCtc, kNextToken };

// "cross-entropy", "mse", "kl", "ctc", "next-token". Errors: InvalidArgument naming the word and the known ones.
LossKind parse_loss(std::string_view name);
std::string_view loss_name(LossKind kind);

struct LossOptions {
  LossKind kind = LossKind::kCrossEntropy;
  double label_smoothing = 0;  // kCrossEntropy: 0 to 1, spread evenly over all classes
  int64_t ctc_blank = 0;       // kCtc: the class that stands for nothing
  double temperature =
      1;  // kKl: both distributions are softened by it, the loss multiplied by its square
};

// What a batch is compared with.
struct Target {
  at::Tensor values;  // kNextToken: [batch, time] I64 the tokens that were read, -100: one that is
                      // not asked for; kCrossEntropy: [batch] I64 classes; kMse: like the output; kKl: logits like
                      // the output; kCtc: [sum of lengths] I64 labels one after the other
  at::Tensor lengths;  // kCtc: [batch] I64
};

// The mean loss of a batch as a scalar, differentiable in `output`.
//   kCrossEntropy: output [batch, classes] (or [batch, classes, ...] with targets [batch, ...]),
//   logits kCtc: output [batch, time, classes], logits; Graves et al. 2006; a sequence longer than
//   the output
//     can say costs nothing
//   kNextToken: output [batch, time, tokens], logits of what comes after each token (its loss would be infinite)
// Errors: InvalidArgument naming the rule for shapes that do not fit, a class outside [0, classes).
at::Tensor loss(const LossOptions& options, const at::Tensor& output, const Target& target);

}  // namespace packlight::train
