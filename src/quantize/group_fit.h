#pragma once

#include <cstdint>
#include <memory>
#include <span>

namespace packlight::quantize {

// How a matrix's scales are chosen.
//   kAbsMax: the smallest scale at which nothing clips: max|w| / 7 or / 127; asymmetric (max - min) / 15 over a range
//            that holds 0.
//   kSearch: the scale (and zero point) with the least sum_i h_i (w_i - scale * (q_i - zero))^2, h the importance.
enum class ScaleMethod { kAbsMax, kSearch };

// The codes a group may use: lo <= q <= hi; zero points only when asymmetric (INT4, 0..15).
struct CodeRange {
  int lo, hi;
  bool symmetric;
};
// bits: 4 or 8. Symmetric INT4 is [-8, 7], symmetric INT8 [-127, 127], asymmetric INT4 [0, 15].
CodeRange code_range(int bits, bool symmetric);

// The parameters of one group. `scale` is an F16 pattern; symmetric INT4 may have a negative one, which turns
// the longer side of [-8, 7] to the side of the largest weight.
struct GroupFit {
  uint16_t scale = 0;
  uint8_t zero = 0;
  bool overflows = false;  // the scale does not fit F16: the caller names the group in its error
};

// Fits groups and rounds them. Holds scratch: one per thread.
// Every result is the same on every instruction set and with any number of threads: sums run in 16 fixed lanes and
// products are never fused.
class GroupFitter {
 public:
  GroupFitter(CodeRange range, ScaleMethod method);
  ~GroupFitter();
  GroupFitter(GroupFitter&&) noexcept;

  // w, importance: [n] finite, importance >= 0 with at least one positive; codes: [n] out.
  // codes = clamp(round_half_even(w / scale) + zero), with the F16 scale as stored. Adds the group's
  // sum h (w - ŵ)^2 to *error and sum h w^2 to *energy.
  // A scale below F16's least positive number becomes that number; a group whose weights all round to zero then has scale,
  // zero point and codes 0.
  // Cost (search): about 70 passes over the group. Sources: the rounding of the largest weight to -8 and the closed-form
  // scale sum(h w q) / sum(h q^2) are llama.cpp's make_qx_quants; differs: wider grid, both signs, refit until it stops gaining,
  // never worse than abs-max.
  GroupFit fit(std::span<const float> w, std::span<const float> importance, int8_t* codes, double* error, double* energy);

 private:
  struct Scratch;
  CodeRange range_;
  ScaleMethod method_;
  std::unique_ptr<Scratch> scratch_;
};

}  // namespace packlight::quantize
