#include "runtime/linear.h"

#include <algorithm>

#include "codec/tile.h"

namespace packlight::runtime {
codec::EncodedTensor tile_rows(const codec::EncodedTensor& w, Span tiles) {
  const int64_t all = codec::row_tiles(w.rows);
  const int64_t row0 = tiles.begin * codec::kTileRows;
  codec::EncodedTensor part = w;
  part.rows = std::min(w.rows, tiles.end * codec::kTileRows) - row0;
  const auto cut = [&](std::span<const std::byte> bytes) {
    const size_t tile_bytes = bytes.size() / all;
    return bytes.subspan(tiles.begin * tile_bytes, (tiles.end - tiles.begin) * tile_bytes);
  };
  part.data = cut(w.data);
  part.scales = cut(w.scales);
  part.zeros = cut(w.zeros);
  return part;
}

void multiply(const kernels::Kernels& kernels, const Linear& linear, const LinearInput& x,
              Span tiles, float* y, int64_t ldy) {
  if (tiles.empty() || x.tokens == 0) return;
  const codec::EncodedTensor w = tile_rows(linear.w, tiles);
  const int64_t count = tiles.end - tiles.begin;
  if (linear.int8_activations) {
    kernels.linear_a8(w, x.int8, 0, count, y, ldy);
  } else {
    kernels.linear_f32(w, x.f32, x.tokens, x.ld, 0, count, y, ldy);
  }
  if (linear.bias != nullptr) {
    const float* bias = linear.bias + tiles.begin * codec::kTileRows;
    for (int64_t t = 0; t < x.tokens; ++t) kernels.add(bias, w.rows, y + t * ldy);
  }
}

void quantize_columns(const kernels::Kernels& kernels, const float* x, int64_t begin, int64_t count,
                      int64_t token, const kernels::ActivationsInt8& out) {
  const int64_t blocks = out.padded_cols / codec::kColumnAlign;
  const int64_t block = token * blocks + begin / codec::kColumnAlign;
  kernels::ActivationsInt8 part;
  part.tokens = 1;
  part.padded_cols = codec::padded_cols(count);
  part.q = out.q + token * out.padded_cols + begin;
  part.scale = out.scale + block;
  part.sum = out.sum + block;
  kernels.quantize_activations(x, count, 0, part);
}

}  // namespace packlight::runtime
