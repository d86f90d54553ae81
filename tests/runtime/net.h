#pragma once

#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "codec/tile.h"
#include "runtime/network/engine.h"

namespace packlight::test {

// A tensor with elements of its own.
template <class T>
struct Elements {
  codec::DType dtype;
  std::vector<int64_t> dims;
  std::vector<T> values;
  runtime::Tensor view() {
    return {dtype, dims, reinterpret_cast<std::byte*>(values.data()), nullptr};
  }
};

using Floats = Elements<float>;

// 1, 2, 3, ...
inline Floats counting(std::vector<int64_t> dims) {
  const int64_t n = std::accumulate(dims.begin(), dims.end(), int64_t{1}, std::multiplies<>());
  Floats f{codec::DType::kF32, std::move(dims), std::vector<float>(n)};
  std::iota(f.values.begin(), f.values.end(), 1.f);
  return f;
}

template <class T>
constexpr codec::DType dtype_of() {
  if constexpr (std::is_same_v<T, float>) return codec::DType::kF32;
  if constexpr (std::is_same_v<T, int64_t>) return codec::DType::kI64;
  if constexpr (std::is_same_v<T, int32_t>) return codec::DType::kI32;
  if constexpr (std::is_same_v<T, int8_t>) return codec::DType::kI8;
  return codec::DType::kU8;
}

// A network that is built value by value.
class Net {
 public:
  int32_t input(const std::string& name, std::vector<io::NetworkDim> shape,
                codec::DType dtype = codec::DType::kF32) {
    const int32_t id = value(name);
    network_->values[id].dtype = dtype;
    network_->values[id].shape = std::move(shape);
    network_->inputs.push_back(id);
    return id;
  }
  template <class T>
  int32_t constant(std::vector<T> numbers, std::vector<int64_t> dims) {
    auto owner = std::make_shared<const std::vector<T>>(std::move(numbers));
    const int32_t id = value("constant" + std::to_string(network_->values.size()));
    io::NetworkConstant constant;
    constant.record = {network_->values[id].name, dtype_of<T>(), std::move(dims),
                       std::as_bytes(std::span(*owner)), owner};
    network_->values[id].constant = std::move(constant);
    return id;
  }
  int32_t integers(std::vector<int64_t> numbers) {
    const auto count = static_cast<int64_t>(numbers.size());
    return constant(std::move(numbers), {count});
  }
  int32_t boolean(bool value) {
    const int32_t id = constant<uint8_t>({static_cast<uint8_t>(value)}, {});
    network_->values[id].constant->record.dtype = codec::DType::kBool;
    return id;
  }
  // Lists a constant as an input, too: what it is unless something is given.
  int32_t replaceable(int32_t constant) {
    network_->inputs.push_back(constant);
    return constant;
  }
  io::NetworkValue& at(int32_t value) { return network_->values[value]; }
  // A packed weight of that shape, whose first dimension is its rows.
  int32_t packed(codec::EncodedTensor tiles, std::vector<int64_t> dims) {
    const int32_t id = value("packed" + std::to_string(network_->values.size()));
    io::NetworkConstant constant;
    constant.record.name = network_->values[id].name;
    constant.record.dtype = codec::DType::kF32;
    constant.record.shape = std::move(dims);
    constant.packed = std::move(tiles);
    network_->values[id].constant = std::move(constant);
    return id;
  }
  // wanted[i]: whether output i has a name. Returns the outputs, kNoValue where not wanted.
  std::vector<int32_t> nodes(const std::string& op, std::vector<int32_t> inputs,
                             const std::vector<bool>& wanted,
                             decltype(io::NetworkNode::attributes) attributes = {},
                             const std::string& domain = "") {
    io::NetworkNode node;
    node.name = op + std::to_string(network_->nodes.size());
    node.op = op;
    node.domain = domain;
    node.inputs = std::move(inputs);
    node.attributes = std::move(attributes);
    for (size_t i = 0; i < wanted.size(); ++i)
      node.outputs.push_back(wanted[i] ? value(node.name + "." + std::to_string(i)) : io::kNoValue);
    network_->nodes.push_back(node);
    return node.outputs;
  }
  int32_t node(const std::string& op, std::vector<int32_t> inputs,
               decltype(io::NetworkNode::attributes) attributes = {},
               const std::string& domain = "") {
    return nodes(op, std::move(inputs), {true}, std::move(attributes), domain)[0];
  }
  io::NetworkNode& last() { return network_->nodes.back(); }
  // What its maker says of a value.
  int32_t declare(int32_t value, std::vector<io::NetworkDim> shape) {
    network_->values[value].dtype = codec::DType::kF32;
    network_->values[value].shape = std::move(shape);
    return value;
  }
  std::vector<io::NetworkDim>& shape(int32_t value) { return *network_->values[value].shape; }

  runtime::Engine finish(std::vector<int32_t> outputs, int threads = 1) {
    return {graph(std::move(outputs)), std::make_shared<base::ThreadPool>(threads)};
  }
  runtime::Engine finish(int32_t output, int threads = 1) {
    return finish(std::vector{output}, threads);
  }
  std::shared_ptr<const io::Network> graph(std::vector<int32_t> outputs) {
    network_->outputs = std::move(outputs);
    return network_;
  }

 private:
  int32_t value(const std::string& name) {
    network_->values.push_back({name, std::nullopt, std::nullopt, std::nullopt});
    return static_cast<int32_t>(network_->values.size()) - 1;
  }
  std::shared_ptr<io::Network> network_ = std::make_shared<io::Network>();
};

template <class T = float>
std::vector<T> result(const runtime::Engine& engine, size_t index = 0) {
  const runtime::Tensor& out = engine.output(index);
  return {out.as<T>(), out.as<T>() + out.elements()};
}

}  // namespace packlight::test
