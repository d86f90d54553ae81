#include "quantize/group_fit.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "base/fail.h"
#include "codec/half.h"

// Built with -ffp-contract=off (see CMakeLists.txt): a fused product would round differently from one processor to the next.

namespace packlight::quantize {
namespace {

constexpr int kLanes = 16;
using Lanes = float __attribute__((vector_size(kLanes * sizeof(float))));
#define PACKLIGHT_INLINE inline __attribute__((always_inline))

// A group padded to whole lanes with weights and importance 0, which add nothing to any sum.
struct Group {
  const float* w;   // weights
  const float* h;   // importance
  const float* hw;  // their product
  int64_t n;        // a multiple of kLanes
};

struct Sums {
  float wq, qq;  // sum h w q, sum h q^2
  float score() const { return qq > 0 ? wq / qq * wq : -1; }  // the error that this scale takes away
};

PACKLIGHT_INLINE void load(const float* p, Lanes& v) { std::memcpy(&v, p, sizeof v); }

PACKLIGHT_INLINE float total(const Lanes& v) {
  float sum[8];
  for (int i = 0; i < 8; ++i) sum[i] = v[i] + v[i + 8];
  return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

// q = round_half_even(clamp(w * inverse)), relative to the zero point. Adding 1.5 * 2^23 leaves no fraction bits.
PACKLIGHT_INLINE void to_codes(Lanes& x, float lo, float hi) {
  const Lanes lower = Lanes{} + lo, upper = Lanes{} + hi;
  x = x < lower ? lower : x;
  x = x > upper ? upper : x;
  constexpr float kShift = 12582912.0f;
  x = (x + kShift) - kShift;
}

PACKLIGHT_INLINE Sums correlate(const Group& g, float inverse, float lo, float hi) {
  Lanes wq = {}, qq = {};
  for (int64_t i = 0; i < g.n; i += kLanes) {
    Lanes w, h, hw;
    load(g.w + i, w);
    load(g.h + i, h);
    load(g.hw + i, hw);
    Lanes q = w * inverse;
    to_codes(q, lo, hi);
    wq += hw * q;
    qq += h * (q * q);
  }
  return {total(wq), total(qq)};
}

// The rounding that is stored: division by the F16 scale. Returns sum h (w - scale q)^2.
PACKLIGHT_INLINE float round_group(const Group& g, float scale, float lo, float hi, float* q_out) {
  Lanes error = {};
  for (int64_t i = 0; i < g.n; i += kLanes) {
    Lanes w, h;
    load(g.w + i, w);
    load(g.h + i, h);
    Lanes q = w / scale;
    to_codes(q, lo, hi);
    std::memcpy(q_out + i, &q, sizeof q);
    const Lanes d = w - q * scale;
    error += h * (d * d);
  }
  return total(error);
}

struct Candidate {
  float scale = 0, score = -1;
  int zero = 0;
};

PACKLIGHT_INLINE void consider(const Group& g, float inverse, int zero, const CodeRange& range, Candidate& best) {
  const Sums sums = correlate(g, inverse, range.lo - zero, range.hi - zero);
  if (sums.score() > best.score) best = {sums.wq / sums.qq, sums.score(), zero};
}

// Recomputes codes for the fitted scale and the scale for those codes while that gains.
PACKLIGHT_INLINE void refine(const Group& g, const CodeRange& range, Candidate& best) {
  for (int pass = 0; pass < 8 && best.scale != 0; ++pass) {
    const float before = best.score;
    consider(g, 1 / best.scale, best.zero, range, best);
    if (!(best.score > before)) return;
  }
}

// `extreme`: the weight of largest magnitude. Level L maps it to code -L, and in the mirror image to L; levels
// above the range clip it, below leave codes unused (better when the others then fall on codes).
PACKLIGHT_INLINE Candidate search_symmetric(const Group& g, float extreme, const CodeRange& range) {
  Candidate best;
  if (range.hi > 7) {
    for (int step = -1; step <= 24; ++step) {
      consider(g, range.hi * (1 + 0.025f * step) / extreme, 0, range, best);
    }
  } else {
    for (int step = 0; step <= 34; ++step) {
      const float level = 5.8f + 0.2f * step;  // 5.8 to 12.6
      consider(g, -level / extreme, 0, range, best);
      consider(g, (level - 0.5f) / extreme, 0, range, best);
    }
  }
  refine(g, range, best);
  return best;
}

PACKLIGHT_INLINE Candidate search_asymmetric(const Group& g, float least, float greatest, const CodeRange& range) {
  Candidate best;
  for (int step = -2; step <= 20; ++step) {
    const float shrink = 1 - 0.025f * step;  // 1.05 to 0.5
    const float inverse = range.hi / ((greatest - least) * shrink);
    const int middle = static_cast<int>(std::nearbyint(-least * shrink * inverse));
    for (int zero = middle - 2; zero <= middle + 2; ++zero) {
      if (zero >= range.lo && zero <= range.hi) consider(g, inverse, zero, range, best);
    }
  }
  refine(g, range, best);
  return best;
}

struct Limits {
  float extreme, least, greatest;  // of the weights; the range includes 0
};

PACKLIGHT_INLINE Candidate search_any(const Group& g, const Limits& limits, const CodeRange& range) {
  return range.symmetric ? search_symmetric(g, limits.extreme, range)
                         : search_asymmetric(g, limits.least, limits.greatest, range);
}

struct Routines {
  Candidate (*search)(const Group&, const Limits&, const CodeRange&);
  float (*round)(const Group&, float scale, float lo, float hi, float* q);
};

Candidate search_base(const Group& g, const Limits& l, const CodeRange& r) { return search_any(g, l, r); }
float round_base(const Group& g, float s, float lo, float hi, float* q) { return round_group(g, s, lo, hi, q); }

#if defined(__x86_64__)
#define PACKLIGHT_FOR(isa, suffix)                                                                        \
  __attribute__((target(isa))) Candidate search_##suffix(const Group& g, const Limits& l, const CodeRange& r) { \
    return search_any(g, l, r);                                                                           \
  }                                                                                                       \
  __attribute__((target(isa))) float round_##suffix(const Group& g, float s, float lo, float hi, float* q) {    \
    return round_group(g, s, lo, hi, q);                                                                  \
  }
PACKLIGHT_FOR("avx2", avx2)
PACKLIGHT_FOR("avx512f", avx512)
#endif

Routines choose_routines() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return {search_avx512, round_avx512};
  if (__builtin_cpu_supports("avx2")) return {search_avx2, round_avx2};
#endif
  return {search_base, round_base};
}

const Routines& routines() {
  static const Routines chosen = choose_routines();
  return chosen;
}

Limits limits_of(std::span<const float> w) {
  Limits limits{0, 0, 0};
  for (const float v : w) {
    if (std::fabs(v) > std::fabs(limits.extreme)) limits.extreme = v;
    limits.least = std::min(limits.least, v);
    limits.greatest = std::max(limits.greatest, v);
  }
  return limits;
}

Candidate abs_max(const Limits& limits, const CodeRange& range) {
  if (range.symmetric) return {std::fabs(limits.extreme) / range.hi, 0, 0};
  const float scale = (limits.greatest - limits.least) / range.hi;
  if (scale == 0) return {};
  const int zero = static_cast<int>(std::nearbyint(-limits.least / scale));
  return {scale, 0, std::clamp(zero, range.lo, range.hi)};
}

// The nearest F16, but never 0 for a group that has weights.
uint16_t storable(float scale) {
  const uint16_t pattern = codec::f32_to_f16(scale);
  if ((pattern & 0x7fff) != 0) return pattern;
  return static_cast<uint16_t>(std::signbit(scale) ? 0x8001 : 0x0001);
}

}  // namespace

CodeRange code_range(int bits, bool symmetric) {
  if (bits == 8 && symmetric) return {-127, 127, true};
  if (bits == 4 && symmetric) return {-8, 7, true};
  if (bits == 4) return {0, 15, false};
  fail(ErrorCode::kInvalidArgument, "[quantize] {} bits, {}: only symmetric INT8 and symmetric or asymmetric INT4 exist",
       bits, symmetric ? "symmetric" : "asymmetric");
}

struct GroupFitter::Scratch {
  std::vector<float> w, h, hw, q, q_other;

  Group prepare(std::span<const float> weights, std::span<const float> importance) {
    const size_t n = weights.size(), padded = (n + kLanes - 1) / kLanes * kLanes;
    for (auto* v : {&w, &h, &hw, &q, &q_other}) v->resize(padded);
    for (size_t i = 0; i < padded; ++i) {
      w[i] = i < n ? weights[i] : 0;
      h[i] = i < n ? importance[i] : 0;
      hw[i] = h[i] * w[i];
    }
    return {w.data(), h.data(), hw.data(), static_cast<int64_t>(padded)};
  }
};

GroupFitter::GroupFitter(CodeRange range, ScaleMethod method)
    : range_(range), method_(method), scratch_(std::make_unique<Scratch>()) {}
GroupFitter::~GroupFitter() = default;
GroupFitter::GroupFitter(GroupFitter&&) noexcept = default;

GroupFit GroupFitter::fit(std::span<const float> w, std::span<const float> importance, int8_t* codes, double* error,
                          double* energy) {
  const Group g = scratch_->prepare(w, importance);
  const Limits limits = limits_of(w);
  for (size_t i = 0; i < w.size(); ++i) *energy += static_cast<double>(g.hw[i]) * w[i];
  const auto all_zero = [&] {
    std::fill_n(codes, w.size(), int8_t{0});
    return GroupFit{};
  };
  // Half of F16's least positive number: what is below rounds to code 0 whatever the scale.
  if (std::fabs(limits.extreme) <= 0x1p-25f) {
    for (size_t i = 0; i < w.size(); ++i) *error += static_cast<double>(g.hw[i]) * w[i];
    return all_zero();
  }
  GroupFit fit;
  const auto lo = [&](int zero) { return static_cast<float>(range_.lo - zero); };
  const auto hi = [&](int zero) { return static_cast<float>(range_.hi - zero); };
  const auto store = [&](const Candidate& c) {
    fit.scale = storable(c.scale);
    fit.zero = static_cast<uint8_t>(c.zero);
    fit.overflows = (fit.scale & 0x7fff) >= 0x7c00;
    return codec::f16_to_f32(fit.scale);
  };
  const Candidate plain = abs_max(limits, range_);
  float scale = store(plain);
  if (fit.overflows) return fit;
  float best = routines().round(g, scale, lo(plain.zero), hi(plain.zero), scratch_->q.data());
  if (method_ == ScaleMethod::kSearch) {
    const GroupFit kept = fit;
    const Candidate found = routines().search(g, limits, range_);
    scale = store(found);
    const float tried = fit.overflows || found.score < 0
                            ? INFINITY
                            : routines().round(g, scale, lo(found.zero), hi(found.zero), scratch_->q_other.data());
    if (tried < best) {
      best = tried;
      std::swap(scratch_->q, scratch_->q_other);
    } else {
      fit = kept;
    }
  }
  bool any = false;
  for (size_t i = 0; i < w.size(); ++i) {
    any = any || scratch_->q[i] != 0;
    codes[i] = static_cast<int8_t>(static_cast<int>(scratch_->q[i]) + fit.zero);
  }
  *error += best;
  return any ? fit : all_zero();
}

}  // namespace packlight::quantize
