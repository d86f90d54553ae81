#include "eval/row_scores.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

namespace packlight::eval {
namespace {

// Loops over kLanes independent sums vectorise without reordering any addition.
constexpr size_t kLanes = 16;
// Additions per lane in f32 before the sums move to double.
constexpr size_t kRun = 64;

// exp(x) for x <= 0 as 2^n * exp(r), |r| <= ln 2 / 2, without branches so that loops over it vectorise (libm's is a call
// per element). The polynomial is the one of Cephes' expf (Moshier, netlib.org/cephes). NaN stays NaN.
inline float exp_nonpositive(float x) {
  constexpr float kLog2E = 1.44269504088896341f, kRound = 12582912.f;  // 1.5 * 2^23: adding it rounds to an integer
  constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  x = x < -87.f ? -87.f : x;  // exp(-87) = 1.6e-38, the last normal power
  const float shifted = x * kLog2E + kRound;
  const float n = shifted - kRound;
  const float r = x - n * kLn2High - n * kLn2Low;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.f;
  const uint32_t exponent = std::bit_cast<uint32_t>(shifted) << 23;  // n in the low bits of `shifted`
  return p * std::bit_cast<float>(exponent + 0x3f800000u);
}

float largest(std::span<const float> values) {
  std::array<float, kLanes> lane;
  lane.fill(values[0]);
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) {
    for (size_t k = 0; k < kLanes; ++k) {
      lane[k] = values[i + k] > lane[k] ? values[i + k] : lane[k];
    }
  }
  float best = lane[0];
  for (float v : lane) best = v > best ? v : best;
  for (; i < values.size(); ++i) best = values[i] > best ? values[i] : best;
  return best;
}

// sum over i of term(i), i < n.
template <class Term>
double sum_terms(size_t n, Term term) {
  double total = 0;
  size_t i = 0;
  while (i + kLanes <= n) {
    const size_t end = std::min(n - kLanes, i + kLanes * (kRun - 1));
    std::array<float, kLanes> lane{};
    for (; i <= end; i += kLanes) {
      for (size_t k = 0; k < kLanes; ++k) lane[k] += term(i + k);
    }
    for (float v : lane) total += v;
  }
  for (; i < n; ++i) total += term(i);
  return total;
}

}  // namespace

RowScore score_row(std::span<const float> logits) {
  const float top = largest(logits);
  const double sum = sum_terms(logits.size(), [&](size_t i) { return exp_nonpositive(logits[i] - top); });
  RowScore score;
  score.log_sum = static_cast<double>(top) + std::log(sum);
  const auto at = std::find(logits.begin(), logits.end(), top);
  score.top = static_cast<int32_t>(at == logits.end() ? 0 : at - logits.begin());
  return score;
}

double kl_divergence_row(std::span<const float> original, double original_log_sum,
                         std::span<const float> model, double model_log_sum) {
  const float shift = static_cast<float>(original_log_sum);
  // exp() of log p is off by the factor exp(original_log_sum - shift), corrected once at the end; log p is above 0 by a
  // rounding at most, which the exponential still serves.
  const double sum = sum_terms(original.size(), [&](size_t i) {
    return exp_nonpositive(original[i] - shift) * (original[i] - model[i]);
  });
  return sum * std::exp(static_cast<double>(shift) - original_log_sum) + (model_log_sum - original_log_sum);
}

}  // namespace packlight::eval
