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

// Bytes of scratch in which multiply() expands the tiles of a pruned matrix: one row tile for few
// tokens, as many as stay in L1 with the activations for more; never the matrix. 0 for a dense one.
int64_t expansion_bytes(const Linear& linear);

// y[t * ldy + r] = sum_c W[r][c] x[t][c] (+ bias[r]) for r counted from the first row of `tiles`:
// only those rows are computed and y[0] is the first of them. scratch: [expansion_bytes(linear)],
// the calling thread's own.
void multiply(const kernels::Kernels& kernels, const Linear& linear, const LinearInput& x,
              Span tiles, float* y, int64_t ldy, uint8_t* scratch);

// Quantizes columns [begin, begin + count) of one row, begin a multiple of 32, into their place in
// `out`.
void quantize_columns(const kernels::Kernels& kernels, const float* x, int64_t begin, int64_t count,
                      int64_t token, const kernels::ActivationsInt8& out);

}  // namespace packlight::runtime
