#include <algorithm>

#include "codec/half.h"
#include "codec/tile.h"
#include "kernels/isa.h"

// The reference that every other ISA is tested against: the definition, written out.

namespace packlight::kernels::scalar {
namespace {

constexpr int kRows = codec::kTileRows;
constexpr int kBlock = codec::kColumnAlign;

// Codes of one tile's block of 32 columns as integers without the zero point: [column][row].
struct Codes {
  int16_t u[kBlock][kRows];
};

void load_codes(const TileMatrix& w, const uint8_t* block, Codes& codes) {
  for (int c = 0; c < kBlock; ++c) {
    for (int r = 0; r < kRows; ++r) {
      if (w.kind == TileKind::kInt8) {
        codes.u[c][r] = static_cast<int8_t>(block[c / 4 * 64 + 4 * r + c % 4]);
      } else {
        const uint8_t pair = block[c / 8 * 64 + 4 * r + c % 4];
        codes.u[c][r] = (c & 4) != 0 ? pair >> 4 : pair & 15;
      }
    }
  }
}

int zero_point(const TileMatrix& w, int64_t at) {
  if (w.kind == TileKind::kInt8) return 0;
  return w.zeros == nullptr ? 8 : w.zeros[at];
}

int64_t block_bytes(const TileMatrix& w) { return w.tile_bytes / (w.padded_cols / kBlock); }

void linear_f16(const TileMatrix& w, const float* x, int64_t tokens, int64_t ldx, int64_t tile,
                float* y, int64_t ldy) {
  const auto* data = reinterpret_cast<const uint16_t*>(w.data + tile * w.tile_bytes);
  const int rows = static_cast<int>(std::min<int64_t>(kRows, w.rows - tile * kRows));
  for (int64_t t = 0; t < tokens; ++t) {
    float sum[kRows] = {};
    for (int64_t c = 0; c < w.cols; ++c) {
      for (int r = 0; r < kRows; ++r)
        sum[r] += codec::f16_to_f32(data[c * kRows + r]) * x[t * ldx + c];
    }
    std::copy_n(sum, rows, y + t * ldy + tile * kRows);
  }
}

}  // namespace

void linear_a8(const TileMatrix& w, const ActivationsInt8& x, int64_t tile0, int64_t tile1,
               float* y, int64_t ldy) {
  const int64_t blocks = w.padded_cols / kBlock;
  Codes codes;
  for (int64_t tile = tile0; tile < tile1; ++tile) {
    const int rows = static_cast<int>(std::min<int64_t>(kRows, w.rows - tile * kRows));
    for (int64_t t = 0; t < x.tokens; ++t) {
      float sum[kRows] = {}, group_sum[kRows] = {};
      for (int64_t b = 0; b < blocks; ++b) {
        load_codes(w, w.data + tile * w.tile_bytes + b * block_bytes(w), codes);
        const int64_t group = b * kBlock / w.group_size;
        const int64_t at = (tile * w.groups + group) * kRows;
        const int8_t* q = x.q + t * x.padded_cols + b * kBlock;
        const bool last_of_group = b + 1 == blocks || (b + 1) * kBlock / w.group_size != group;
        for (int r = 0; r < rows; ++r) {
          int32_t dot = -zero_point(w, at + r) * x.sum[t * blocks + b];
          for (int c = 0; c < kBlock; ++c) dot += codes.u[c][r] * q[c];
          group_sum[r] += static_cast<float>(dot) * x.scale[t * blocks + b];
          if (last_of_group) {
            sum[r] += group_sum[r] * codec::f16_to_f32(w.scales[at + r]);
            group_sum[r] = 0;
          }
        }
      }
      std::copy_n(sum, rows, y + t * ldy + tile * kRows);
    }
  }
}

void linear_f32(const TileMatrix& w, const float* x, int64_t tokens, int64_t ldx, int64_t tile0,
                int64_t tile1, float* y, int64_t ldy) {
  Codes codes;
  for (int64_t tile = tile0; tile < tile1; ++tile) {
    if (w.kind == TileKind::kF16) {
      linear_f16(w, x, tokens, ldx, tile, y, ldy);
      continue;
    }
    const int rows = static_cast<int>(std::min<int64_t>(kRows, w.rows - tile * kRows));
    for (int64_t t = 0; t < tokens; ++t) {
      float sum[kRows] = {};
      for (int64_t c0 = 0; c0 < w.cols; c0 += kBlock) {
        load_codes(w, w.data + tile * w.tile_bytes + c0 / kBlock * block_bytes(w), codes);
        const int64_t at = (tile * w.groups + c0 / w.group_size) * kRows;
        const int width = static_cast<int>(std::min<int64_t>(kBlock, w.cols - c0));
        for (int r = 0; r < rows; ++r) {
          const float scale = codec::f16_to_f32(w.scales[at + r]);
          const int zero = zero_point(w, at + r);
          for (int c = 0; c < width; ++c) {
            sum[r] += static_cast<float>(codes.u[c][r] - zero) * scale * x[t * ldx + c0 + c];
          }
        }
      }
      std::copy_n(sum, rows, y + t * ldy + tile * kRows);
    }
  }
}

}  // namespace packlight::kernels::scalar
