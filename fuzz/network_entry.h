#pragma once

#include <array>
#include <cstdlib>
#include <map>

#include "base/fail.h"
#include "io/network_json.h"

namespace packlight::fuzz {

// The tensors that stand beside a network's JSON: by their names, whatever it says.
inline io::NetworkConstant network_constant(const io::NetworkTensorSpec& spec) {
  const std::string& name = spec.name;
  alignas(64) static constexpr std::array<std::byte, 1024> zeros{};
  io::NetworkConstant constant;
  io::TensorRecord& record = constant.record;
  record.name = name;
  if (name.starts_with("tiles")) {  // [20, 40] in symmetric INT4, groups of 32
    record.dtype = codec::DType::kF32;
    record.shape = {20, 40};
    constant.packed.dtype = codec::DType::kTileInt4;
    constant.packed.rows = 20;
    constant.packed.cols = 40;
    constant.packed.group_size = 32;
    constant.packed.data = std::span(zeros).first(2 * 8 * 64);
    constant.packed.scales = std::span(zeros).first(2 * 2 * 32);
    return constant;
  }
  if (name.find("missing") != std::string::npos)
    fail(ErrorCode::kCorrupt, "[fuzz] no tensor '{}'", name);
  const bool integers = name.starts_with("i64");
  record.dtype = integers ? codec::DType::kI64 : codec::DType::kF32;
  record.shape = integers ? std::vector<int64_t>{2} : std::vector<int64_t>{2, 3};
  record.bytes = std::span(zeros).first(integers ? 16 : 24);
  return constant;
}

// A network's JSON: an Error, or a network that can be written and is read again as the same.
inline void network(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const Json json = base::parse_json(text, "fuzz.plk");
  const io::Network network = io::network_from_json(json, network_constant, "fuzz.plk");
  const Json written = io::network_to_json(network);
  std::map<std::string, io::NetworkConstant> stored;
  for (const io::NetworkTensor& tensor : io::network_tensors(network)) {
    const auto added = stored.emplace(
        tensor.name,
        tensor.constant != nullptr ? *tensor.constant : io::NetworkConstant{*tensor.attribute, {}});
    if (!added.second) std::abort();
  }
  const auto find = [&](const io::NetworkTensorSpec& spec) { return stored.at(spec.name); };
  const io::Network again = io::network_from_json(written, find, "fuzz.plk");
  if (io::network_to_json(again) != written) std::abort();
}

}  // namespace packlight::fuzz
