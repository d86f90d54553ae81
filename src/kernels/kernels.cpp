#include "kernels/kernels.h"

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__x86_64__)
#include <cpuid.h>
#endif

#include <algorithm>
#include <cstdlib>
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

constexpr bool kSigned = true, kUnsigned = false;

// INTEGER: namespace of the integer kernels; REST: namespace that has everything else.
#define PACKLIGHT_TABLE(NAME, INTEGER, REST, CODES)                                                \
  Kernels {                                                                                        \
    NAME, REST::quantize_activations, linear_a8<INTEGER::linear_a8>, linear_f32<REST::linear_f32>, \
        REST::rms_norm, REST::add, REST::silu_mul, REST::rotary, REST::store_f16,                  \
        REST::store_int8, REST::attention, REST::product_f32, INTEGER::product_int8,               \
        REST::activate, REST::quantize_quads, REST::quantize_codes, REST::round_to_codes, CODES    \
  }

#if defined(__x86_64__)
constexpr Kernels kAvx512Vnni = PACKLIGHT_TABLE("avx512vnni", avx512vnni, avx512bw, kUnsigned);
constexpr Kernels kAvx512Bw = PACKLIGHT_TABLE("avx512bw", avx512bw, avx512bw, kUnsigned);
constexpr Kernels kAvx2 = PACKLIGHT_TABLE("avx2", avx2, avx2, kUnsigned);
#elif defined(__aarch64__)
constexpr Kernels kNeonDotprod = PACKLIGHT_TABLE("neon_dotprod", neon_dotprod, neon, kSigned);
constexpr Kernels kNeon = PACKLIGHT_TABLE("neon", neon, neon, kSigned);
#endif
constexpr Kernels kScalar = PACKLIGHT_TABLE("scalar", scalar, scalar, kUnsigned);

constexpr const Kernels* kBuilt[] = {
#if defined(__x86_64__)
    &kAvx512Vnni,
    &kAvx512Bw,
    &kAvx2,
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
  return avx512 && (table == &kAvx512Bw || __builtin_cpu_supports("avx512vnni"));
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

}  // namespace

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
