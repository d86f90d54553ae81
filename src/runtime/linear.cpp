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

namespace {

constexpr int64_t kFewTokens = 8;  // a kernel takes so many at once: each tile is read only once
constexpr int64_t kExpandedBytes = 32 << 10;

int64_t dense_tile_bytes(const Linear& linear) {
  return codec::padded_cols(linear.w.cols) * codec::kTileRows / 2;
}

int64_t tiles_at_once(const Linear& linear) {
  return std::max<int64_t>(1, kExpandedBytes / dense_tile_bytes(linear));
}

void multiply_tiles(const kernels::Kernels& kernels, const Linear& linear,
                    const codec::EncodedTensor& w, const LinearInput& x, float* y, int64_t ldy) {
  const int64_t count = codec::row_tiles(w.rows);
  if (linear.int8_activations) {
    kernels.linear_a8(w, x.int8, 0, count, y, ldy);
  } else {
    kernels.linear_f32(w, x.f32, x.tokens, x.ld, 0, count, y, ldy);
  }
}

// The dense kernels on a few expanded tiles after the other.
void multiply_sparse(const kernels::Kernels& kernels, const Linear& linear, const LinearInput& x,
                     Span tiles, float* y, int64_t ldy, uint8_t* scratch) {
  const int64_t step = x.tokens <= kFewTokens ? 1 : tiles_at_once(linear);
  const int64_t tile_bytes = dense_tile_bytes(linear);
  for (int64_t first = tiles.begin; first < tiles.end; first += step) {
    const int64_t last = std::min(tiles.end, first + step);
    kernels.expand_tiles(linear.sparse, first, last, scratch);
    codec::EncodedTensor w = tile_rows(linear.w, {first, last});
    w.data = {reinterpret_cast<const std::byte*>(scratch),
              static_cast<size_t>((last - first) * tile_bytes)};
    multiply_tiles(kernels, linear, w, x, y + (first - tiles.begin) * codec::kTileRows, ldy);
  }
}

}  // namespace

int64_t expansion_bytes(const Linear& linear) {
  if (linear.sparse.form == codec::Sparsity::kNone) return 0;
  return tiles_at_once(linear) * dense_tile_bytes(linear);
}

void multiply(const kernels::Kernels& kernels, const Linear& linear, const LinearInput& x,
              Span tiles, float* y, int64_t ldy, uint8_t* scratch) {
  if (tiles.empty() || x.tokens == 0) return;
  if (linear.sparse.form == codec::Sparsity::kNone) {
    multiply_tiles(kernels, linear, tile_rows(linear.w, tiles), x, y, ldy);
  } else {
    multiply_sparse(kernels, linear, x, tiles, y, ldy, scratch);
  }
  if (linear.bias != nullptr) {
    const int64_t row = tiles.begin * codec::kTileRows;
    const int64_t rows = std::min(linear.w.rows, tiles.end * codec::kTileRows) - row;
    for (int64_t t = 0; t < x.tokens; ++t) kernels.add(linear.bias + row, rows, y + t * ldy);
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
