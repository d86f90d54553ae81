#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "codec/encoded_tensor.h"
#include "codec/sparse_tile.h"
#include "kernels/views.h"

namespace packlight::kernels {

// One table of functions per ISA. Every function is thread-safe and touches only the rows, tokens
// or heads it is told to, so callers split work over threads. Integer dot products are identical on
// every ISA; float results differ from the scalar table by rounding only (bounds in tests/kernels).
struct Kernels {
  std::string_view
      name;  // "scalar", "avx2", "avx512bw", "avx512vnni", "avx512vbmi2", "neon", "neon_dotprod"

  // x: [cols] f32 -> row `token` of `out`. NaN or infinity in x gives scale NaN, so it shows in the
  // output.
  void (*quantize_activations)(const float* x, int64_t cols, int64_t token,
                               const ActivationsInt8& out);

  // y[t][r] = sum_c W[r][c] * x[t][c] for the row tiles [tile0, tile1) and every token: INT8
  // activations. w: kTileInt4 or kTileInt8 (group boundaries at multiples of 32). y: [tokens, ldy]
  // f32; only rows of the tiles that exist (r < w.rows) are written.
  void (*linear_a8)(const codec::EncodedTensor& w, const ActivationsInt8& x, int64_t tile0,
                    int64_t tile1, float* y, int64_t ldy);

  // The same with float activations x: [tokens, ldx] f32. w: kTileInt4, kTileInt8 or kTileF16. `x`
  // rows are readable (zero) up to padded_cols(w.cols).
  void (*linear_f32)(const codec::EncodedTensor& w, const float* x, int64_t tokens, int64_t ldx,
                     int64_t tile0, int64_t tile1, float* y, int64_t ldy);

  // Row tiles [tile0, tile1) of a pruned matrix as the data of kTileInt4, bit for bit, for the two
  // above: out has padded_cols(w.cols) * 8 bytes for each. w has passed check_sparse().
  void (*expand_tiles)(const codec::SparseTiles& w, int64_t tile0, int64_t tile1, uint8_t* out);

  // out[i] = x[i] / sqrt(mean(x^2) + epsilon) * weight[i]
  void (*rms_norm)(const float* x, const float* weight, int64_t n, float epsilon, float* out);
  // y[i] += x[i]
  void (*add)(const float* x, int64_t n, float* y);
  // gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i]
  void (*silu_mul)(float* gate, const float* up, int64_t n);
  // Rotates one head in place: pairs (i, i + head_dim/2) by the angle whose cosine and sine are
  // given [head_dim/2].
  void (*rotary)(float* head, const float* cosine, const float* sine, int64_t head_dim);
  // f32 -> F16 (nearest even), and -> INT8 with scale max|x|/127 returned.
  void (*store_f16)(const float* x, int64_t n, uint16_t* out);
  float (*store_int8)(const float* x, int64_t n, int8_t* out);

  // Attention of `n_q` query rows that share one KV head. Row i sees positions [first[i], end[i])
  // (not empty):
  //   out[i] = softmax(q[i] · k * scale) · v
  // Online softmax over tiles of positions: scratch is bounded, see attention_scratch_floats().
  // q: [n_q] rows of head_dim f32 at q + q_offset[i]; out rows at out + q_offset[i].
  void (*attention)(const float* q, float* out, const int64_t* q_offset, const int32_t* first,
                    const int32_t* end, int64_t n_q, const KvView& kv, float scale, float* scratch);

  // The products of views.h, on the calling thread.
  void (*product_f32)(const ProductF32& it);
  void (*product_int8)(const ProductInt8& it);
  // y[i] = activation(x[i]); y may be x.
  void (*activate)(const Activation& it, const float* x, int64_t n, float* y);
  // Codes of up to four rows x + i * x_stride of n floats, interleaved: out[4 j + i] = q(x[i][j]),
  // the zero point where i >= rows. The bytes are q, or q - 128 where signed_codes (a zero point is
  // then that much smaller, too). NaN gives some code.
  void (*quantize_quads)(const float* x, int64_t x_stride, int64_t rows, int64_t n,
                         const CodeRange& range, uint8_t* out);
  // The same of n floats in a row: out[i] = q(x[i]).
  void (*quantize_codes)(const float* x, int64_t n, const CodeRange& range, uint8_t* out);
  // What a code stands for: y[i] = (q(x[i]) - zero) * scale; y may be x. NaN gives some number.
  void (*round_to_codes)(const float* x, int64_t n, const CodeRange& range, float* y);
  bool signed_codes;
};

// Floats of scratch that attention() needs for n_q rows, on every ISA.
int64_t attention_scratch_floats(int64_t n_q, int64_t head_dim);

// Every table this program was built with, best first, scalar last: also those that this processor
// cannot run.
std::span<const Kernels* const> built();

// The tables this program was built with and this processor can run, best first; scalar is always
// last.
std::span<const Kernels* const> available();

// The first of available(), or the one that PACKLIGHT_FORCE_ISA names. Errors: InvalidArgument when
// that names none (the message lists them). Chosen once per process.
const Kernels& active();

}  // namespace packlight::kernels
