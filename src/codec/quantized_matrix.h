#pragma once

#include <cstdint>
#include <vector>

namespace packlight::codec {

// What a quantizer decides about a weight matrix, in plain row-major form: w ≈ (code - zero) * scale.
//   symmetric INT8: codes in [-127, 127]; symmetric INT4: codes in [-8, 7]; zero = 0, `zeros` empty
//   asymmetric INT4: codes and zeros in [0, 15]
// Columns are in groups of group_size (32, 64, 128 or cols); the last group of a row may be shorter.
struct QuantizedMatrix {
  int64_t rows = 0, cols = 0;
  int bits = 4;
  int64_t group_size = 32;
  std::vector<int8_t> codes;     // [rows, cols]
  std::vector<uint16_t> scales;  // [rows, groups] F16 patterns
  std::vector<uint8_t> zeros;    // [rows, groups], or empty when symmetric

  int64_t groups_per_row() const { return (cols + group_size - 1) / group_size; }
  bool symmetric() const { return zeros.empty(); }
};

}  // namespace packlight::codec
