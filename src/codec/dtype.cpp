#include "codec/dtype.h"

#include <array>

namespace packlight::codec {
namespace {

// Sizes of the GGML blocks: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h
constexpr std::array<DTypeInfo, 21> kTable = {{
    {"F64", 1, 8},      {"F32", 1, 4},      {"F16", 1, 2},       {"BF16", 1, 2},
    {"I64", 1, 8},      {"I32", 1, 4},      {"I16", 1, 2},       {"I8", 1, 1},
    {"U8", 1, 1},       {"BOOL", 1, 1},     {"Q4_0", 32, 18},    {"Q4_1", 32, 20},
    {"Q5_0", 32, 22},   {"Q5_1", 32, 24},   {"Q8_0", 32, 34},    {"Q4_K", 256, 144},
    {"Q5_K", 256, 176}, {"Q6_K", 256, 210}, {"TILE_INT4", 0, 0}, {"TILE_INT8", 0, 0},
    {"TILE_F16", 0, 0},
}};
static_assert(kTable.size() == static_cast<size_t>(DType::kTileF16) + 1);

}  // namespace

const DTypeInfo& info(DType dtype) { return kTable[static_cast<size_t>(dtype)]; }

}  // namespace packlight::codec
