#include "train/loss.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <array>

#include "base/fail.h"

namespace packlight::train {
namespace {

struct Name {
  std::string_view text;
  LossKind kind;
};
constexpr std::array kNames = {Name{"cross-entropy", LossKind::kCrossEntropy},
                               Name{"mse", LossKind::kMse}, Name{"kl", LossKind::kKl},
                               Name{"ctc", LossKind::kCtc},
                               Name{"next-token", LossKind::kNextToken}};

void check_classes(const at::Tensor& labels, int64_t classes) {
  if (labels.numel() == 0) return;
  const int64_t low = labels.min().item<int64_t>(), high = labels.max().item<int64_t>();
  if (low < 0 || high >= classes) {
    fail(ErrorCode::kInvalidArgument, "[train] label {} is outside the {} classes of the output",
         low < 0 ? low : high, classes);
  }
}

at::Tensor cross_entropy(const LossOptions& options, const at::Tensor& output,
                         const Target& target) {
  if (output.dim() < 2 || target.values.dim() != output.dim() - 1 ||
      target.values.size(0) != output.size(0)) {
    fail(ErrorCode::kInvalidArgument,
         "[train] cross-entropy takes an output [batch, classes, ...] and labels [batch, ...]; "
         "they have [{}] and [{}]",
         fmt::join(output.sizes().begin(), output.sizes().end(), ", "),
         fmt::join(target.values.sizes().begin(), target.values.sizes().end(), ", "));
  }
  check_classes(target.values, output.size(1));
  return at::cross_entropy_loss(output, target.values, {}, at::Reduction::Mean, -100,
                                options.label_smoothing);
}

at::Tensor kl_divergence(const LossOptions& options, const at::Tensor& output,
                         const Target& target) {
  const double t = options.temperature;
  const at::Tensor want = at::log_softmax(target.values / t, -1),
                   have = at::log_softmax(output / t, -1);
  const int64_t rows = output.numel() / output.size(-1);
  return (want.exp() * (want - have)).sum() * (t * t / static_cast<double>(rows));
}

at::Tensor ctc(const LossOptions& options, const at::Tensor& output, const Target& target) {
  if (output.dim() != 3 || !target.lengths.defined() || target.lengths.size(0) != output.size(0)) {
    fail(ErrorCode::kInvalidArgument,
         "[train] CTC takes an output [batch, time, classes] and one label sequence a sample; the "
         "output has [{}]",
         fmt::join(output.sizes().begin(), output.sizes().end(), ", "));
  }
  check_classes(target.values, output.size(2));
  const at::Tensor scores = at::log_softmax(output, -1).transpose(0, 1);  // [time, batch, classes]
  const at::Tensor times = at::full({output.size(0)}, output.size(1), at::kLong);
  return at::ctc_loss(scores, target.values, times, target.lengths, options.ctc_blank,
                      at::Reduction::Mean, /*zero_infinity=*/true);
}

constexpr int64_t kNotAsked = -100;

at::Tensor next_token(const at::Tensor& output, const at::Tensor& tokens) {
  if (output.dim() != 3 || tokens.dim() != 2 || tokens.size(0) != output.size(0) ||
      tokens.size(1) != output.size(1) || tokens.size(1) < 2) {
    fail(ErrorCode::kInvalidArgument,
         "[train] the loss of tokens that come next takes an output [batch, time, tokens] and "
         "tokens [batch, time] of 2 or more; they have [{}] and [{}]",
         fmt::join(output.sizes().begin(), output.sizes().end(), ", "),
         fmt::join(tokens.sizes().begin(), tokens.sizes().end(), ", "));
  }
  const int64_t last = output.size(1) - 1, classes = output.size(2);
  const at::Tensor next = tokens.narrow(1, 1, last).reshape({-1});
  check_classes(next.masked_select(next.ne(kNotAsked)), classes);
  return at::cross_entropy_loss(output.narrow(1, 0, last).reshape({-1, classes}), next, {},
                                at::Reduction::Mean, kNotAsked);
}

}  // namespace

LossKind parse_loss(std::string_view name) {
  std::vector<std::string_view> known;
  for (const Name& row : kNames) {
    if (row.text == name) return row.kind;
    known.push_back(row.text);
  }
  fail(ErrorCode::kInvalidArgument, "[train] there is no loss '{}'; there are {}", name,
       fmt::join(known, ", "));
}

std::string_view loss_name(LossKind kind) {
  for (const Name& row : kNames)
    if (row.kind == kind) return row.text;
  fail(ErrorCode::kInternal, "[train] unknown loss");
}

at::Tensor loss(const LossOptions& options, const at::Tensor& output, const Target& target) {
  const bool same_shape = options.kind == LossKind::kMse || options.kind == LossKind::kKl;
  if (same_shape && output.sizes() != target.values.sizes()) {
    fail(ErrorCode::kInvalidArgument, "[train] the output has shape [{}], its target [{}]",
         fmt::join(output.sizes().begin(), output.sizes().end(), ", "),
         fmt::join(target.values.sizes().begin(), target.values.sizes().end(), ", "));
  }
  switch (options.kind) {
    case LossKind::kCrossEntropy:
      return cross_entropy(options, output, target);
    case LossKind::kMse:
      return at::mse_loss(output, target.values);
    case LossKind::kKl:
      return kl_divergence(options, output, target);
    case LossKind::kCtc:
      return ctc(options, output, target);
    case LossKind::kNextToken:
      return next_token(output, target.values);
  }
  fail(ErrorCode::kInternal, "[train] unknown loss");
}

}  // namespace packlight::train
