#pragma once

#include <optional>
#include <vector>

#include "io/network.h"

// The pattern by which networks carry INT8: a QuantizeLinear and a DequantizeLinear before a layer,
// whose weight is codes behind a DequantizeLinear.
namespace packlight::runtime {

// A dense constant that is the same in every run; null for anything else. One that is an input,
// too, is only what the input is unless something is given.
const io::TensorRecord* constant_of(const io::Network& network, int32_t value);

// A network's nodes by the values that they make.
class Producers {
 public:
  explicit Producers(const io::Network& network);
  // Of the main domain; null for any other, and for a value that no node makes.
  const io::NetworkNode* node(int32_t value, std::string_view op) const;

 private:
  const io::Network& network_;
  std::vector<int32_t> by_value_;
};

// Whether a value is known to be dense F32.
bool is_float(const io::Network& network, int32_t value);

// A value that was rounded to codes: what it was before, and by which scale and zero point. The
// zero point is that of unsigned codes, 128 more than that of signed ones.
struct RoundedValue {
  int32_t source;
  float scale;
  int32_t zero;
  int32_t factors = io::kNoValue;  // a constant vector that its channels were multiplied by first
};
std::optional<RoundedValue> rounded_value(const io::Network& network, const Producers& producers,
                                          int32_t value);

// A Conv, MatMul or Gemm of the main domain, one that kernels for codes compute: makes it an
// Int8Conv or Int8MatMul that reads the value before it was rounded. Weights in another order are
// constants added to the network; the bytes of those are returned, nothing where the node stays as
// it is.
std::optional<uint64_t> fuse_int8(io::Network& network, const Producers& producers,
                                  io::NetworkNode& node);

}  // namespace packlight::runtime
