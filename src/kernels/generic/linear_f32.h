#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/isa.h"

// Tiles times float activations over the operations of a vector type V. One token: codes go from
// the tile through registers. More: a panel of the tile is decoded to floats in L1 and used for
// many tokens. Internal linkage, see views.h.

namespace packlight::kernels {
namespace {

constexpr int64_t kPanelColumns = 256;  // 16 rows of floats: 16 kB, half of L1
constexpr int kPrefetchAhead =
    2048;  // bytes ahead in the weights: DRAM latency at the speed of one core
constexpr int64_t kTokenBlock = 64;  // activations that stay in L2 while the tiles pass

// The codes, minus zero points, of one vector of rows: what to do with a step of the tile's layout.
template <class V, TileKind kKind, bool kSymmetric>
struct Decoder {
  typename V::F zero;

  template <int kColumn>
  typename V::F int4(typename V::I words) const {
    constexpr int kShift = 8 * (kColumn % 4) + (kColumn >= 4 ? 4 : 0);
    if constexpr (kSymmetric) return V::template nibble_minus_8<kShift>(words);
    return V::sub(V::template nibble<kShift>(words), zero);
  }
  // Calls use(column, values) for the 8 columns at `data`, rows from `row`.
  template <class Use>
  inline __attribute__((always_inline)) void eight(const uint8_t* data, int row,
                                                   const Use& use) const {
    if constexpr (kKind == TileKind::kInt4) {
      const auto words = V::load_words(data + 4 * row);
      use(0, int4<0>(words)), use(1, int4<1>(words)), use(2, int4<2>(words)),
          use(3, int4<3>(words));
      use(4, int4<4>(words)), use(5, int4<5>(words)), use(6, int4<6>(words)),
          use(7, int4<7>(words));
    } else {
      for (int half = 0; half < 2; ++half) {
        const auto words = V::load_words(data + 64 * half + 4 * row);
        use(4 * half, V::template byte<0>(words)), use(4 * half + 1, V::template byte<8>(words));
        use(4 * half + 2, V::template byte<16>(words)),
            use(4 * half + 3, V::template byte<24>(words));
      }
    }
  }
};

template <TileKind kKind>
constexpr int64_t bytes_of_columns(int64_t columns) {
  return kKind == TileKind::kInt4   ? 8 * columns
         : kKind == TileKind::kInt8 ? 16 * columns
                                    : 32 * columns;
}

template <class V, TileKind kKind, bool kSymmetric>
inline Decoder<V, kKind, kSymmetric> decoder_of(const TileMatrix& w, int64_t group_row) {
  Decoder<V, kKind, kSymmetric> decoder;
  if constexpr (!kSymmetric)
    decoder.zero = V::load_u8(w.zeros + group_row);
  else
    decoder.zero = V::zero();
  return decoder;
}

template <class V>
inline void store_rows(const TileMatrix& w, int64_t tile, int row, typename V::F sum, float* y) {
  const int64_t rows = w.rows - tile * 16 - row;
  if (rows >= V::kLanes)
    V::store(y + tile * 16 + row, sum);
  else if (rows > 0)
    V::store_part(y + tile * 16 + row, sum, static_cast<int>(rows));
}

// A few tokens. Each group's sum of codes times activations is scaled once.
template <class V, TileKind kKind, bool kSymmetric, int kTokens>
void tile_times_few(const TileMatrix& w, const float* x, int64_t ldx, int64_t tile, float* y,
                    int64_t ldy) {
  constexpr int kParts = kTokens == 1   ? 4
                         : kTokens <= 3 ? 2
                                        : 1;  // enough sums to hide the latency of one
  const uint8_t* data = w.data + tile * w.tile_bytes;
  for (int row = 0; row < 16; row += V::kLanes) {
    typename V::F sum[kTokens];
    for (int t = 0; t < kTokens; ++t) sum[t] = V::zero();
    for (int64_t group = 0, c = 0; group < w.groups; ++group) {
      const int64_t at = (tile * w.groups + group) * 16 + row;
      const auto decoder = decoder_of<V, kKind, kSymmetric>(w, at);
      int64_t end = (group + 1) * w.group_size;
      if (end > w.cols) end = w.cols;
      typename V::F part[kTokens][kParts];
      for (int t = 0; t < kTokens; ++t) {
        for (int i = 0; i < kParts; ++i) part[t][i] = V::zero();
      }
      for (; c < end; c += 8) {  // the activations of the padding are zero
        const uint8_t* from = data + bytes_of_columns<kKind>(c);
        if (row == 0) __builtin_prefetch(from + kPrefetchAhead);
        decoder.eight(
            from, row, [&](int i, typename V::F code) __attribute__((always_inline)) {
#pragma GCC unroll 8
              for (int t = 0; t < kTokens; ++t) {
                part[t][i % kParts] =
                    V::fma(code, V::set1(x[t * ldx + c + i]), part[t][i % kParts]);
              }
            });
      }
      const auto scale = V::load_f16(w.scales + at);
      for (int t = 0; t < kTokens; ++t) {
        typename V::F total = part[t][0];
        for (int i = 1; i < kParts; ++i) total = V::add(total, part[t][i]);
        sum[t] = V::fma(total, scale, sum[t]);
      }
    }
    for (int t = 0; t < kTokens; ++t) store_rows<V>(w, tile, row, sum[t], y + t * ldy);
  }
}

template <class V, int kTokens>
void f16_tile_times_few(const TileMatrix& w, const float* x, int64_t ldx, int64_t tile, float* y,
                        int64_t ldy) {
  constexpr int kParts = kTokens == 1 ? 4 : kTokens <= 3 ? 2 : 1;
  const auto* data = reinterpret_cast<const uint16_t*>(w.data + tile * w.tile_bytes);
  for (int row = 0; row < 16; row += V::kLanes) {
    typename V::F part[kTokens][kParts];
    for (int t = 0; t < kTokens; ++t) {
      for (int i = 0; i < kParts; ++i) part[t][i] = V::zero();
    }
    for (int64_t c = 0; c < w.padded_cols; c += 4) {
      if (row == 0) __builtin_prefetch(data + c * 16 + kPrefetchAhead / 2);
      if (row == 0) __builtin_prefetch(data + c * 16 + kPrefetchAhead / 2 + 32);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const auto weight = V::load_f16(data + (c + i) * 16 + row);
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) {
          part[t][i % kParts] = V::fma(weight, V::set1(x[t * ldx + c + i]), part[t][i % kParts]);
        }
      }
    }
    for (int t = 0; t < kTokens; ++t) {
      typename V::F total = part[t][0];
      for (int i = 1; i < kParts; ++i) total = V::add(total, part[t][i]);
      store_rows<V>(w, tile, row, total, y + t * ldy);
    }
  }
}

// tokens <= kTokens, the codes decoded once for all of them.
template <class V, TileKind kKind, bool kSymmetric, int kTokens>
void tile_times_up_to(int64_t tokens, const TileMatrix& w, const float* x, int64_t ldx,
                      int64_t tile, float* y, int64_t ldy) {
  if (tokens == kTokens) {
    if constexpr (kKind == TileKind::kF16)
      f16_tile_times_few<V, kTokens>(w, x, ldx, tile, y, ldy);
    else
      tile_times_few<V, kKind, kSymmetric, kTokens>(w, x, ldx, tile, y, ldy);
  } else if constexpr (kTokens > 1) {
    tile_times_up_to<V, kKind, kSymmetric, kTokens - 1>(tokens, w, x, ldx, tile, y, ldy);
  }
}

// Columns [c0, c1) of a tile as floats: panel[c - c0][row]. c0 and c1 are multiples of 32.
template <class V, TileKind kKind, bool kSymmetric>
void decode_panel(const TileMatrix& w, int64_t tile, int64_t c0, int64_t c1, float* panel) {
  const uint8_t* data = w.data + tile * w.tile_bytes;
  for (int row = 0; row < 16; row += V::kLanes) {
    for (int64_t block = c0; block < c1; block += 32) {
      const int64_t at = (tile * w.groups + block / w.group_size) * 16 + row;
      const auto decoder = decoder_of<V, kKind, kSymmetric>(w, at);
      const auto scale = V::load_f16(w.scales + at);
      for (int64_t c = block; c < block + 32; c += 8) {
        float* to = panel + (c - c0) * 16 + row;
        decoder.eight(data + bytes_of_columns<kKind>(c), row, [&](int i, typename V::F code) {
          V::store(to + i * 16, V::mul(code, scale));
        });
      }
    }
  }
}

template <class V>
void decode_f16_panel(const TileMatrix& w, int64_t tile, int64_t c0, int64_t c1, float* panel) {
  const auto* data = reinterpret_cast<const uint16_t*>(w.data + tile * w.tile_bytes) + c0 * 16;
  for (int64_t i = 0; i < (c1 - c0) * 16; i += V::kLanes)
    V::store(panel + i, V::load_f16(data + i));
}

// sums[t][row] (+)= panel times kTokens activations.
template <class V, int kTokens>
void panel_times_tokens(const float* panel, int64_t columns, const float* x, int64_t ldx,
                        bool first, float* sums) {
  constexpr int kVectors = 16 / V::kLanes;
  typename V::F sum[kTokens][kVectors];
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sum[t][v] = first ? V::zero() : V::load(sums + t * 16 + v * V::kLanes);
    }
  }
  for (int64_t c = 0; c < columns; ++c) {
    typename V::F weights[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) weights[v] = V::load(panel + c * 16 + v * V::kLanes);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      const auto value = V::set1(x[t * ldx + c]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[t][v] = V::fma(weights[v], value, sum[t][v]);
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) V::store(sums + t * 16 + v * V::kLanes, sum[t][v]);
  }
}

// The same for `tokens` <= kTokens.
template <class V, int kTokens>
void panel_times_up_to(int64_t tokens, const float* panel, int64_t columns, const float* x,
                       int64_t ldx, bool first, float* sums) {
  if (tokens == kTokens) {
    panel_times_tokens<V, kTokens>(panel, columns, x, ldx, first, sums);
  } else if constexpr (kTokens > 1) {
    panel_times_up_to<V, kTokens - 1>(tokens, panel, columns, x, ldx, first, sums);
  }
}

// decode(c0, c1, panel) fills a panel of this tile.
template <class V, class Decode>
void tile_times_block(const TileMatrix& w, const float* x, int64_t tokens, int64_t ldx,
                      int64_t tile, float* y, int64_t ldy, const Decode& decode) {
  alignas(64) float panel[kPanelColumns * 16];
  alignas(64) float sums[kTokenBlock * 16];
  for (int64_t c0 = 0; c0 < w.padded_cols; c0 += kPanelColumns) {
    int64_t columns = w.padded_cols - c0;
    if (columns > kPanelColumns) columns = kPanelColumns;
    decode(c0, c0 + columns, panel);
    for (int64_t t = 0; t < tokens; t += V::kTokens) {
      const int64_t left = tokens - t < V::kTokens ? tokens - t : V::kTokens;
      panel_times_up_to<V, V::kTokens>(left, panel, columns, x + t * ldx + c0, ldx, c0 == 0,
                                       sums + t * 16);
    }
  }
  for (int64_t t = 0; t < tokens; ++t) {
    for (int row = 0; row < 16; row += V::kLanes) {
      store_rows<V>(w, tile, row, V::load(sums + t * 16 + row), y + t * ldy);
    }
  }
}

template <class V, TileKind kKind, bool kSymmetric>
void tiles_times_floats(const TileMatrix& w, const float* x, int64_t tokens, int64_t ldx,
                        int64_t tile0, int64_t tile1, float* y, int64_t ldy) {
  for (int64_t t = 0; t < tokens; t += kTokenBlock) {
    const int64_t block = tokens - t < kTokenBlock ? tokens - t : kTokenBlock;
    const float* from = x + t * ldx;
    float* to = y + t * ldy;
    for (int64_t tile = tile0; tile < tile1; ++tile) {
      if (block <= V::kDirectTokens) {
        tile_times_up_to<V, kKind, kSymmetric, V::kDirectTokens>(block, w, from, ldx, tile, to,
                                                                 ldy);
        continue;
      }
      tile_times_block<V>(w, from, block, ldx, tile, to, ldy,
                          [&](int64_t c0, int64_t c1, float* panel) {
                            if constexpr (kKind == TileKind::kF16)
                              decode_f16_panel<V>(w, tile, c0, c1, panel);
                            else
                              decode_panel<V, kKind, kSymmetric>(w, tile, c0, c1, panel);
                          });
    }
  }
}

template <class V>
void linear_f32_with(const TileMatrix& w, const float* x, int64_t tokens, int64_t ldx,
                     int64_t tile0, int64_t tile1, float* y, int64_t ldy) {
  if (w.kind == TileKind::kF16) {
    tiles_times_floats<V, TileKind::kF16, true>(w, x, tokens, ldx, tile0, tile1, y, ldy);
  } else if (w.kind == TileKind::kInt8) {
    tiles_times_floats<V, TileKind::kInt8, true>(w, x, tokens, ldx, tile0, tile1, y, ldy);
  } else if (w.zeros == nullptr) {
    tiles_times_floats<V, TileKind::kInt4, true>(w, x, tokens, ldx, tile0, tile1, y, ldy);
  } else {
    tiles_times_floats<V, TileKind::kInt4, false>(w, x, tokens, ldx, tile0, tile1, y, ldy);
  }
}

}  // namespace
}  // namespace packlight::kernels
