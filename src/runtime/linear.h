#pragma once

#include <cstdint>

#include "kernels/kernels.h"
#include "runtime/weights.h"
#include "runtime/work_split.h"

namespace packlight::runtime {

// Activations that a linear reads, in the forms its users need.
struct LinearInput {
  int64_t tokens = 0;
  kernels::ActivationsInt8 int8;  // q == nullptr when no user wants INT8
  float* f32 = nullptr;           // [tokens, ld]; columns past the width are zero
  int64_t ld = 0;
};

// Which forms a group of matrices with one input needs.
struct InputForms {
  bool int8 = false, f32 = false;
  void add(const Linear& linear) { (linear.int8_activations ? int8 : f32) = true; }
};

// The rows of row tiles [tiles.begin, tiles.end) as a matrix of their own (a view).
codec::EncodedTensor tile_rows(const codec::EncodedTensor& w, Span tiles);

// y[t * ldy + r] = sum_c W[r][c] x[t][c] (+ bias[r]) for r counted from the first row of `tiles`:
// only those rows are computed and y[0] is the first of them.
void multiply(const kernels::Kernels& kernels, const Linear& linear, const LinearInput& x,
              Span tiles, float* y, int64_t ldy);

// Quantizes columns [begin, begin + count) of one row, begin a multiple of 32, into their place in
// `out`.
void quantize_columns(const kernels::Kernels& kernels, const float* x, int64_t begin, int64_t count,
                      int64_t token, const kernels::ActivationsInt8& out);

}  // namespace packlight::runtime
