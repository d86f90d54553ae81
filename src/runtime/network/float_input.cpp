#include "runtime/network/float_input.h"

#include "codec/encoded_tensor.h"
#include "codec/half.h"

namespace packlight::runtime {

const float* float_input(const RunCall& call, size_t input, std::vector<float>& buffer) {
  const Tensor& tensor = call.input(input);
  if (tensor.packed == nullptr && tensor.dtype == codec::DType::kF32) return tensor.as<float>();
  const int64_t count = tensor.elements();
  buffer.resize(count);
  if (tensor.packed != nullptr) {
    const codec::EncodedTensor& packed = *tensor.packed;
    if (packed.rows * packed.cols != count)
      call.refuse("input {} is {}, its packed matrix {} x {}", input, to_string(tensor.dims),
                  packed.rows, packed.cols);
    constexpr int64_t kRowsAtOnce = 64;
    const int64_t tiles = (packed.rows + kRowsAtOnce - 1) / kRowsAtOnce;
    call.parallel(tiles, 1, [&](int64_t begin, int64_t end) {
      const int64_t row = begin * kRowsAtOnce, last = std::min(packed.rows, end * kRowsAtOnce);
      codec::decode_rows(packed, row, last, buffer.data() + row * packed.cols);
    });
    return buffer.data();
  }
  const uint16_t* bits = tensor.as<uint16_t>();
  if (tensor.dtype == codec::DType::kF16) {
    for (int64_t i = 0; i < count; ++i) buffer[i] = codec::f16_to_f32(bits[i]);
  } else if (tensor.dtype == codec::DType::kBF16) {
    for (int64_t i = 0; i < count; ++i) buffer[i] = codec::bf16_to_f32(bits[i]);
  } else {
    call.refuse("input {} is {}, not F32", input, codec::info(tensor.dtype).name);
  }
  return buffer.data();
}

}  // namespace packlight::runtime
