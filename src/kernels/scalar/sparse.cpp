#include "codec/tile.h"
#include "kernels/isa.h"

namespace packlight::kernels::scalar {

void expand_bitmask(SparseCursor& from, int64_t steps, const uint8_t* fill, uint8_t* out) {
  for (int64_t step = 0; step < steps; ++step, from.masks += 16, out += 64) {
    for (int i = 0; i < 64; ++i) {
      const int byte = i / 8, bit = i % 8;
      unsigned pair = 0;
      if ((from.masks[byte] >> bit & 1) != 0) pair |= *from.low++ & 0x0fu;
      if ((from.masks[8 + byte] >> bit & 1) != 0) pair |= *from.high++ & 0xf0u;
      out[i] = static_cast<uint8_t>(pair ^ fill[i]);
    }
  }
}

void expand_two_of_four(SparseCursor& from, int64_t steps, const uint8_t* fill, uint8_t* out) {
  for (int64_t step = 0; step < steps; ++step, from.masks += 48, out += 64) {
    for (int row = 0; row < codec::kTileRows; ++row) {
      const unsigned position = from.masks[32 + row];
      for (unsigned c = 0; c < 4; ++c) {
        unsigned pair = fill[4 * row + c];
        for (int i = 0; i < 2; ++i) {
          const unsigned value = from.masks[2 * row + i];
          if ((position >> 2 * i & 3) == c) pair ^= value & 0x0f;
          if ((position >> (4 + 2 * i) & 3) == c) pair ^= value & 0xf0;
        }
        out[4 * row + c] = static_cast<uint8_t>(pair);
      }
    }
  }
}

}  // namespace packlight::kernels::scalar
