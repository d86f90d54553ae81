#pragma once

#include <cstdint>

#include "kernels/views.h"

// The functions that an ISA's translation units define; kernels.h says what they do. kernels.cpp
// makes the tables. Declarations only, for the reason given in views.h.

namespace packlight::kernels {

// Shapes of attention()'s blocks, the same on every ISA, so that scratch is too.
inline constexpr int64_t kQueryBlock =
    64;  // query rows for which a block of K and V is converted once
inline constexpr int64_t kFewQueryRows =
    8;  // up to here rows as lanes would leave half of a wide vector idle
inline constexpr int64_t kPositionBlock = 64;  // positions converted at a time

// expand_table()[m][i] is how many bits of m are set below bit i where bit i is, else 128: a byte
// shuffle's control that puts the first bytes of a register where m's bits are.
const uint8_t (*expand_table())[8];

// What integer dot product instructions decide.
#define PACKLIGHT_INTEGER_KERNELS                                                             \
  void linear_a8(const TileMatrix& w, const ActivationsInt8& x, int64_t tile0, int64_t tile1, \
                 float* y, int64_t ldy);                                                      \
  void product_int8(const ProductInt8& it);

// What instructions that move bytes about decide: codec::SparseTiles to the bytes of dense INT4
// tiles.
#define PACKLIGHT_SPARSE_KERNELS                                                             \
  void expand_bitmask(SparseCursor& from, int64_t steps, const uint8_t* fill, uint8_t* out); \
  void expand_two_of_four(SparseCursor& from, int64_t steps, const uint8_t* fill, uint8_t* out);

#define PACKLIGHT_OTHER_KERNELS                                                                    \
  void quantize_activations(const float* x, int64_t cols, int64_t token,                           \
                            const ActivationsInt8& out);                                           \
  void linear_f32(const TileMatrix& w, const float* x, int64_t tokens, int64_t ldx, int64_t tile0, \
                  int64_t tile1, float* y, int64_t ldy);                                           \
  void rms_norm(const float* x, const float* weight, int64_t n, float epsilon, float* out);        \
  void add(const float* x, int64_t n, float* y);                                                   \
  void silu_mul(float* gate, const float* up, int64_t n);                                          \
  void rotary(float* head, const float* cosine, const float* sine, int64_t head_dim);              \
  void store_f16(const float* x, int64_t n, uint16_t* out);                                        \
  float store_int8(const float* x, int64_t n, int8_t* out);                                        \
  void attention(const float* q, float* out, const int64_t* q_offset, const int32_t* first,        \
                 const int32_t* end, int64_t n_q, const KvView& kv, float scale, float* scratch);  \
  void product_f32(const ProductF32& it);                                                          \
  void activate(const Activation& it, const float* x, int64_t n, float* y);                        \
  void quantize_quads(const float* x, int64_t x_stride, int64_t rows, int64_t n,                   \
                      const CodeRange& range, uint8_t* out);                                       \
  void quantize_codes(const float* x, int64_t n, const CodeRange& range, uint8_t* out);            \
  void round_to_codes(const float* x, int64_t n, const CodeRange& range, float* y);

namespace scalar {
PACKLIGHT_INTEGER_KERNELS
PACKLIGHT_SPARSE_KERNELS
PACKLIGHT_OTHER_KERNELS
}  // namespace scalar
namespace avx2 {
PACKLIGHT_INTEGER_KERNELS
PACKLIGHT_SPARSE_KERNELS
PACKLIGHT_OTHER_KERNELS
}  // namespace avx2
namespace avx512bw {
PACKLIGHT_INTEGER_KERNELS
PACKLIGHT_OTHER_KERNELS
}  // namespace avx512bw
namespace avx512vnni {
PACKLIGHT_INTEGER_KERNELS
}  // namespace avx512vnni
namespace avx512vbmi2 {
PACKLIGHT_SPARSE_KERNELS
}  // namespace avx512vbmi2
namespace neon {
PACKLIGHT_INTEGER_KERNELS
PACKLIGHT_SPARSE_KERNELS
PACKLIGHT_OTHER_KERNELS
}  // namespace neon
namespace neon_dotprod {
PACKLIGHT_INTEGER_KERNELS
}  // namespace neon_dotprod

}  // namespace packlight::kernels
