#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "base/fail.h"
#include "codec/tile.h"
#include "fuzz/io_entries.h"
#include "io/network_json.h"
#include "runtime/network/engine.h"

namespace packlight::fuzz {

// Numbers "1,2,..." as they come, over and over, as `count` elements of a type.
inline std::shared_ptr<std::vector<std::byte>> elements_of(codec::DType dtype, int64_t count,
                                                           std::string_view text) {
  std::vector<double> numbers;
  while (!text.empty()) {
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc()) break;
    numbers.push_back(number);
    text.remove_prefix(std::min<size_t>(end - text.data() + 1, text.size()));
  }
  if (numbers.empty()) numbers = {0};
  const auto whole = [](double number) {
    return std::abs(number) < 0x1p62 ? static_cast<int64_t>(number) : INT64_MIN;
  };
  const size_t bytes = codec::info(dtype).block_bytes;
  auto owner = std::make_shared<std::vector<std::byte>>(count * bytes);
  for (int64_t i = 0; i < count; ++i) {
    const double number = numbers[i % numbers.size()];
    const auto narrow = static_cast<float>(number);
    const int64_t integer = whole(number);
    const void* from = dtype == codec::DType::kF32   ? static_cast<const void*>(&narrow)
                       : dtype == codec::DType::kF64 ? static_cast<const void*>(&number)
                                                     : &integer;
    std::memcpy(owner->data() + i * bytes, from, bytes);
  }
  return owner;
}

inline std::vector<int64_t> sizes_of(std::string_view text) {
  std::vector<int64_t> sizes;
  while (!text.empty()) {
    int64_t size = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size);
    if (error != std::errc() || size < 0 || size > 64) fail(ErrorCode::kCorrupt, "[fuzz] no sizes");
    sizes.push_back(size);
    text.remove_prefix(std::min<size_t>(end - text.data() + 1, text.size()));
  }
  return sizes;
}

// A tensor by its name, which says what it holds: "TYPE;SIZES;NUMBERS", or "tiles" ([20, 40] of
// INT4).
inline io::NetworkConstant told_constant(const std::string& name) {
  io::NetworkConstant constant;
  io::TensorRecord& record = constant.record;
  record.name = name;
  if (name.starts_with("tiles")) {
    codec::QuantizedMatrix matrix{
        20, 40, 4, 32, std::vector<int8_t>(800, 3), std::vector<uint16_t>(40, 0x3c00), {}};
    constant.packed = codec::pack(matrix);
    record.shape = {20, 40};
    return constant;
  }
  const size_t first = name.find(';'), second = name.find(';', first + 1);
  if (first == std::string::npos || second == std::string::npos)
    fail(ErrorCode::kCorrupt, "[fuzz] no tensor '{}'", name);
  const auto known = {codec::DType::kF32, codec::DType::kI64, codec::DType::kI32,
                      codec::DType::kU8,  codec::DType::kI8,  codec::DType::kBool};
  const auto dtype = std::find_if(known.begin(), known.end(), [&](codec::DType one) {
    return name.substr(0, first) == codec::info(one).name;
  });
  if (dtype == known.end()) fail(ErrorCode::kCorrupt, "[fuzz] no tensor '{}'", name);
  record.dtype = *dtype;
  record.shape = sizes_of(std::string_view(name).substr(first + 1, second - first - 1));
  int64_t count = 1;
  for (const int64_t size : record.shape) count = std::min<int64_t>(count * size, 1 << 17);
  if (count > 1 << 16) fail(ErrorCode::kCorrupt, "[fuzz] tensor '{}' is too large", name);
  const auto owner = elements_of(record.dtype, count, std::string_view(name).substr(second + 1));
  record.bytes = *owner;
  record.owner = owner;
  return constant;
}

// A network's JSON, read and run twice on small inputs of the types and shapes that it declares.
inline void engine(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const Json json = base::parse_json(text, "fuzz.plk");
  const auto network =
      std::make_shared<const io::Network>(io::network_from_json(json, told_constant, "fuzz.plk"));
  static const auto pool = std::make_shared<base::ThreadPool>(2);
  runtime::Engine engine(network, pool);
  std::vector<runtime::Tensor> inputs;
  std::vector<std::shared_ptr<std::vector<std::byte>>> owners;
  for (const int32_t id : network->inputs) {
    const io::NetworkValue& value = network->values[id];
    runtime::Tensor input;
    input.dtype = value.dtype.value_or(codec::DType::kF32);
    int64_t count = 1;
    for (const io::NetworkDim& dim : value.shape.value_or(std::vector<io::NetworkDim>(2))) {
      input.dims.push_back(dim.value >= 0 ? dim.value : 2);
      count *= input.dims.back();
      if (count > 1 << 14) return;  // more than a moment's work
    }
    owners.push_back(elements_of(input.dtype, count, "1,-2,3,0,0.5,2,7"));
    input.data = owners.back()->data();
    inputs.push_back(input);
  }
  for (int repeat = 0; repeat < 2; ++repeat) {
    engine.run(inputs);
    for (size_t i = 0; i < network->outputs.size(); ++i) {
      const runtime::Tensor& out = engine.output(i);
      touch({out.data, out.bytes()});
    }
  }
}

}  // namespace packlight::fuzz
