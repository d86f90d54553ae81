#include <array>
#include <memory>
#include <vector>

#include "base/fail.h"
#include "codec/sparse_shape.h"

namespace packlight::codec {
namespace {

// Positions and values of the two kept of four nibbles, given as 0 to 15. False when there are
// more.
bool choose_two(const unsigned (&four)[4], unsigned (&value)[2], unsigned& position) {
  unsigned at[2] = {0, 0}, count = 0;
  for (unsigned c = 0; c < 4; ++c) {
    if (four[c] == 0) continue;
    if (count == 2) return false;
    at[count++] = c;
  }
  if (count == 0) at[1] = 1;
  if (count == 1 && at[0] == 3) at[0] = 2, at[1] = 3;
  if (count == 1 && at[1] == 0) at[1] = at[0] + 1;
  position = at[0] | at[1] << 2;
  value[0] = four[at[0]];
  value[1] = four[at[1]];
  return true;
}

bool compress_pairs(const std::byte* step, std::byte* to) {
  for (int row = 0; row < kTileRows; ++row) {
    unsigned value[2][2], position[2];
    for (const int side : {0, 1}) {
      unsigned four[4];
      for (int c = 0; c < 4; ++c)
        four[c] = static_cast<unsigned>(step[4 * row + c]) >> 4 * side & 15;
      if (!choose_two(four, value[side], position[side])) return false;
    }
    for (const int i : {0, 1})
      to[2 * row + i] = static_cast<std::byte>(value[0][i] | value[1][i] << 4);
    to[2 * kTileRows + row] = static_cast<std::byte>(position[0] | position[1] << 4);
  }
  return true;
}

class BitmaskWriter {
 public:
  BitmaskWriter(const SparseShape& shape, std::vector<std::byte>& out) : shape_(shape), out_(out) {
    out_.resize(shape.values_at);
  }
  void add_step(int64_t tile, int64_t step, const std::byte* bytes) {
    uint64_t masks[2] = {0, 0};
    for (int i = 0; i < kStepBytes; ++i) {
      const auto pair = static_cast<unsigned>(bytes[i]);
      add(pair & 0x0f, 0, i, masks);
      add(pair & 0xf0, 1, i, masks);
    }
    for (const int side : {0, 1})
      store_u64(out_.data() + (tile * shape_.steps + step) * kStepMaskBytes + 8 * side,
                masks[side]);
  }
  void end_tile(int64_t tile) {
    next_[0] = next_[1] = out_.size() - shape_.values_at;
    store_u64(out_.data() + shape_.offsets_at + (tile + 1) * kOffsetBytes, next_[0]);
  }

 private:
  void add(unsigned nibble, int side, int i, uint64_t (&masks)[2]) {
    if (nibble == 0) return;
    masks[side] |= uint64_t{1} << i;
    const uint64_t at = shape_.values_at + next_[side]++;
    if (at == out_.size()) out_.push_back(std::byte{0});
    out_[at] |= static_cast<std::byte>(nibble);
  }

  const SparseShape& shape_;
  std::vector<std::byte>& out_;
  uint64_t next_[2] = {0, 0};
};

}  // namespace

std::optional<SparseTiles> compress_tiles(const EncodedTensor& dense, Sparsity form) {
  if (dense.dtype != DType::kTileInt4 || form == Sparsity::kNone) {
    fail(ErrorCode::kInvalidArgument, "[codec] {} has no compressed form", info(dense.dtype).name);
  }
  check_sizes(dense, "");
  const SparseShape shape(dense.rows, dense.cols);
  const ZeroPoints zeros(dense.zeros, dense.cols, dense.group_size);
  const auto bytes = std::make_shared<std::vector<std::byte>>();
  BitmaskWriter bitmask(shape, *bytes);
  if (form == Sparsity::kTwoOfFour) bytes->resize(shape.tiles * shape.steps * kStepPairBytes);
  std::array<std::byte, kStepBytes> step_bytes;
  for (int64_t tile = 0; tile < shape.tiles; ++tile) {
    for (int64_t step = 0; step < shape.steps; ++step) {
      const int64_t at = tile * shape.steps + step;
      xor_zeros(dense.data.data() + at * kStepBytes, zeros.at(tile, step), step_bytes.data());
      if (form == Sparsity::kBitmask) {
        bitmask.add_step(tile, step, step_bytes.data());
      } else if (!compress_pairs(step_bytes.data(), bytes->data() + at * kStepPairBytes)) {
        return std::nullopt;
      }
    }
    if (form == Sparsity::kBitmask) bitmask.end_tile(tile);
  }
  if (form == Sparsity::kBitmask) bytes->resize(bytes->size() + kSparseGuardBytes);
  struct Owner {
    std::shared_ptr<std::vector<std::byte>> bytes;
    std::shared_ptr<const void> dense;
  };
  return SparseTiles{
      form,   dense.rows,   dense.cols,  dense.group_size,
      *bytes, dense.scales, dense.zeros, std::make_shared<Owner>(bytes, dense.owner)};
}

}  // namespace packlight::codec
