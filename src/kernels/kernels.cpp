#include "kernels/kernels.h"

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__x86_64__)
#include <cpuid.h>
#endif

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <string>
#include <vector>

#include "base/fail.h"
#include "codec/tile.h"
#include "kernels/isa.h"

namespace packlight::kernels {
namespace {

TileMatrix view(const codec::EncodedTensor& w) {
  using codec::DType;
  if (!codec::is_tile(w.dtype)) {
    fail(ErrorCode::kInternal, "[kernels] {} weights given to a kernel that reads tiles",
         codec::info(w.dtype).name);
  }
  TileMatrix m;
  m.kind = w.dtype == DType::kTileInt4   ? TileKind::kInt4
           : w.dtype == DType::kTileInt8 ? TileKind::kInt8
                                         : TileKind::kF16;
  m.rows = w.rows;
  m.cols = w.cols;
  m.padded_cols = codec::padded_cols(w.cols);
  m.tile_bytes = m.kind == TileKind::kInt4   ? m.padded_cols * codec::kTileRows / 2
                 : m.kind == TileKind::kInt8 ? m.padded_cols * codec::kTileRows
                                             : m.padded_cols * codec::kTileRows * 2;
  m.group_size = m.kind == TileKind::kF16 ? w.cols : w.group_size;
  m.groups = w.groups_per_row();
  m.data = reinterpret_cast<const uint8_t*>(w.data.data());
  m.scales = reinterpret_cast<const uint16_t*>(w.scales.data());
  m.zeros = w.zeros.empty() ? nullptr : reinterpret_cast<const uint8_t*>(w.zeros.data());
  return m;
}

template <auto kFunction>
void linear_a8(const codec::EncodedTensor& w, const ActivationsInt8& x, int64_t tile0,
               int64_t tile1, float* y, int64_t ldy) {
  if (w.dtype == codec::DType::kTileF16 || x.padded_cols != codec::padded_cols(w.cols)) {
    fail(ErrorCode::kInternal, "[kernels] linear_a8 of {} with {} columns and activations of {}",
         codec::info(w.dtype).name, w.cols, x.padded_cols);
  }
  kFunction(view(w), x, tile0, tile1, y, ldy);
}

template <auto kFunction>
void linear_f32(const codec::EncodedTensor& w, const float* x, int64_t tokens, int64_t ldx,
                int64_t tile0, int64_t tile1, float* y, int64_t ldy) {
  kFunction(view(w), x, tokens, ldx, tile0, tile1, y, ldy);
}

using Expand = void (*)(SparseCursor& from, int64_t steps, const uint8_t* fill, uint8_t* out);

// Steps that have the same zero points at a time: a whole row tile when symmetric, else a group.
void expand_tile(const codec::SparseTiles& w, int64_t tile, Expand expand, uint8_t* out) {
  const int64_t steps = codec::padded_cols(w.cols) / codec::kStepColumns;
  const int64_t tiles = codec::row_tiles(w.rows);
  const auto* data = reinterpret_cast<const uint8_t*>(w.data.data());
  SparseCursor from{data + tile * steps * codec::kStepPairBytes, nullptr, nullptr};
  if (w.form == codec::Sparsity::kBitmask) {
    const uint8_t* offsets = data + tiles * steps * codec::kStepMaskBytes;
    uint64_t offset;
    std::memcpy(&offset, offsets + tile * sizeof offset, sizeof offset);
    from.masks = data + tile * steps * codec::kStepMaskBytes;
    from.low = from.high = offsets + (tiles + 1) * sizeof offset + offset;
  }
  alignas(64) uint8_t fill[64];
  if (w.symmetric()) {
    std::memset(fill, 0x88, sizeof fill);
    return expand(from, steps, fill, out);
  }
  const int64_t groups = (w.cols + w.group_size - 1) / w.group_size;
  for (int64_t group = 0, step = 0; group < groups; ++group) {
    const std::byte* zeros = w.zeros.data() + (tile * groups + group) * codec::kTileRows;
    for (int i = 0; i < 64; ++i)
      fill[i] = static_cast<uint8_t>(static_cast<int>(zeros[i / 4]) * 17);
    const int64_t end =
        group + 1 == groups ? steps : (group + 1) * w.group_size / codec::kStepColumns;
    expand(from, end - step, fill, out + 64 * step);
    step = end;
  }
}

template <auto kBitmask, auto kTwoOfFour>
void expand_tiles(const codec::SparseTiles& w, int64_t tile0, int64_t tile1, uint8_t* out) {
  const Expand expand = w.form == codec::Sparsity::kBitmask ? kBitmask : kTwoOfFour;
  const int64_t tile_bytes = codec::padded_cols(w.cols) * codec::kTileRows / 2;
  for (int64_t tile = tile0; tile < tile1; ++tile)
    expand_tile(w, tile, expand, out + (tile - tile0) * tile_bytes);
}

constexpr bool kSigned = true, kUnsigned = false;

// INTEGER: namespace of the integer kernels; SPARSE: of those that expand; REST: namespace that has
// everything else.
#define PACKLIGHT_TABLE(NAME, INTEGER, SPARSE, REST, CODES)                                        \
  Kernels {                                                                                        \
    NAME, REST::quantize_activations, linear_a8<INTEGER::linear_a8>, linear_f32<REST::linear_f32>, \
        expand_tiles<SPARSE::expand_bitmask, SPARSE::expand_two_of_four>, REST::rms_norm,          \
        REST::add, REST::silu_mul, REST::rotary, REST::store_f16, REST::store_int8,                \
        REST::attention, REST::product_f32, INTEGER::product_int8, REST::activate,                 \
        REST::quantize_quads, REST::quantize_codes, REST::round_to_codes, CODES                    \
  }

#if defined(__x86_64__)
constexpr Kernels kAvx512Vbmi2 =
    PACKLIGHT_TABLE("avx512vbmi2", avx512vnni, avx512vbmi2, avx512bw, kUnsigned);
constexpr Kernels kAvx512Vnni =
    PACKLIGHT_TABLE("avx512vnni", avx512vnni, avx2, avx512bw, kUnsigned);
constexpr Kernels kAvx512Bw = PACKLIGHT_TABLE("avx512bw", avx512bw, avx2, avx512bw, kUnsigned);
constexpr Kernels kAvx2 = PACKLIGHT_TABLE("avx2", avx2, avx2, avx2, kUnsigned);
#elif defined(__aarch64__)
constexpr Kernels kNeonDotprod = PACKLIGHT_TABLE("neon_dotprod", neon_dotprod, neon, neon, kSigned);
constexpr Kernels kNeon = PACKLIGHT_TABLE("neon", neon, neon, neon, kSigned);
#endif
constexpr Kernels kScalar = PACKLIGHT_TABLE("scalar", scalar, scalar, scalar, kUnsigned);

constexpr const Kernels* kBuilt[] = {
#if defined(__x86_64__)
    &kAvx512Vbmi2, &kAvx512Vnni, &kAvx512Bw, &kAvx2,
#elif defined(__aarch64__)
    &kNeonDotprod,
    &kNeon,
#endif
    &kScalar,
};

#if defined(__x86_64__)
// Clang 14's __builtin_cpu_supports() does not know it.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

bool runs_here(const Kernels* table) {
  if (table == &kScalar) return true;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  if (table == &kAvx2) return avx2;
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq");
  if (table == &kAvx512Bw || !avx512) return avx512;
  return __builtin_cpu_supports("avx512vnni") &&
         (table == &kAvx512Vnni || __builtin_cpu_supports("avx512vbmi2"));
#elif defined(__aarch64__)
  return (getauxval(AT_HWCAP) & (table == &kNeonDotprod ? HWCAP_ASIMDDP : HWCAP_ASIMD)) != 0;
#else
  return false;
#endif
}

std::vector<const Kernels*> detect() {
  std::vector<const Kernels*> tables;
  std::copy_if(std::begin(kBuilt), std::end(kBuilt), std::back_inserter(tables), runs_here);
  return tables;
}

const Kernels& choose() {
  const char* forced = std::getenv("PACKLIGHT_FORCE_ISA");
  if (forced == nullptr || *forced == '\0') return *available().front();
  std::string names;
  for (const Kernels* table : available()) {
    if (table->name == forced) return *table;
    names += (names.empty() ? "" : ", ") + std::string(table->name);
  }
  fail(ErrorCode::kInvalidArgument,
       "[kernels] PACKLIGHT_FORCE_ISA is '{}'; this program on this processor has: {}", forced,
       names);
}

constexpr auto kExpandTable = [] {
  std::array<std::array<uint8_t, 8>, 256> table{};
  for (unsigned mask = 0; mask < 256; ++mask) {
    for (unsigned i = 0; i < 8; ++i) {
      const unsigned below = mask & ((1u << i) - 1);
      table[mask][i] = (mask >> i & 1) != 0 ? static_cast<uint8_t>(std::popcount(below)) : 128;
    }
  }
  return table;
}();

}  // namespace

const uint8_t (*expand_table())[8] {
  return reinterpret_cast<const uint8_t(*)[8]>(kExpandTable.data()->data());
}

int64_t attention_scratch_floats(int64_t n_q, int64_t head_dim) {
  const int64_t rows = n_q > kFewQueryRows ? kQueryBlock : kFewQueryRows;
  // Queries, sums and a block of K and of V, each padded to whole vectors; the scores; alignment.
  const int64_t dim = (head_dim + 15) / 16 * 16;
  return 2 * rows * dim + 2 * kPositionBlock * dim + rows * kPositionBlock + 64;
}

std::span<const Kernels* const> built() { return kBuilt; }

std::span<const Kernels* const> available() {
  static const std::vector<const Kernels*> tables = detect();
  return tables;
}

const Kernels& active() {
  static const Kernels& table = choose();
  return table;
}

}  // namespace packlight::kernels
