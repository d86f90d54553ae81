#include "runtime/network/fuse_int8.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "packlight/error.h"
#include "runtime/network/fuse.h"
#include "runtime/network/int8_products.h"

namespace packlight::runtime {
namespace {

using codec::DType;
using io::NetworkNode;
using io::TensorRecord;

int32_t input_of(const NetworkNode& node, size_t index) {
  return index < node.inputs.size() ? node.inputs[index] : io::kNoValue;
}

template <class T>
T element(const TensorRecord& record, int64_t index) {
  T value;
  std::memcpy(&value, record.bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

struct CodedWeight {
  TensorRecord codes;  // I8
  TensorRecord scale;  // F32: one, or one for each element of axis `axis`
  int64_t axis;
  float scale_of(int64_t output) const {
    return element<float>(scale, scale.elements() == 1 ? 0 : output);
  }
};

// A weight of signed codes without zero point and without blocks.
std::optional<CodedWeight> coded_weight(const io::Network& network, const Producers& producers,
                                        int32_t value) {
  const NetworkNode* node = producers.node(value, "DequantizeLinear");
  if (node == nullptr || node->integer("block_size", 0) != 0) return {};
  const TensorRecord *codes = constant_of(network, input_of(*node, 0)),
                     *scale = constant_of(network, input_of(*node, 1));
  if (codes == nullptr || codes->dtype != DType::kI8 || scale == nullptr ||
      scale->dtype != DType::kF32 || scale->shape.size() > 1)
    return {};
  if (input_of(*node, 2) != io::kNoValue) {
    const TensorRecord* zero = constant_of(network, input_of(*node, 2));
    if (zero == nullptr || zero->dtype != DType::kI8) return {};
    for (const std::byte byte : zero->bytes) {
      if (byte != std::byte{0}) return {};
    }
  }
  const auto rank = static_cast<int64_t>(codes->shape.size());
  int64_t axis = node->integer("axis", 1);
  if (axis < 0) axis += rank;
  if (scale->elements() != 1 &&
      (axis < 0 || axis >= rank || scale->elements() != codes->shape[axis]))
    return {};
  return CodedWeight{*codes, *scale, axis};
}

// A new constant of the network; `values` is what it holds.
template <class T>
int32_t add_constant(io::Network& network, const std::string& name, DType dtype,
                     std::vector<int64_t> dims, std::vector<T> values) {
  auto owned = std::make_shared<std::vector<T>>(std::move(values));
  io::NetworkValue value;
  value.name = name;
  value.dtype = dtype;
  io::NetworkConstant constant;
  constant.record = {name, dtype, std::move(dims), std::as_bytes(std::span(*owned)), owned};
  value.constant = std::move(constant);
  network.values.push_back(std::move(value));
  return static_cast<int32_t>(network.values.size()) - 1;
}

// A constant as a view of its bytes under other dimensions.
int32_t add_view(io::Network& network, const TensorRecord& record, std::vector<int64_t> dims) {
  io::NetworkValue value;
  value.name = "int8:" + std::to_string(network.values.size());
  value.dtype = record.dtype;
  io::NetworkConstant constant;
  constant.record = record;
  constant.record.shape = std::move(dims);
  value.constant = std::move(constant);
  network.values.push_back(std::move(value));
  return static_cast<int32_t>(network.values.size()) - 1;
}

// What is the same for convolutions and matrix products.
struct Prepared {
  int64_t outputs = 0;
  std::vector<int64_t> quad_dims;
  std::vector<int8_t> quads;  // empty: the codes are in that order where they are
};

// Rewrites `node` to read x and the prepared weights. code(output, term) is a weight's code.
template <class Code>
uint64_t rewrite(io::Network& network, NetworkNode& node, const char* op, const RoundedValue& x,
                 const CodedWeight& weight, Prepared prepared, int64_t terms, int32_t bias,
                 const Code& code) {
  const int32_t zero = x.zero - (kernels::active().signed_codes ? 128 : 0);
  std::vector<int32_t> start(prepared.outputs);
  std::vector<float> scale(prepared.outputs);
  for (int64_t output = 0; output < prepared.outputs; ++output) {
    int32_t sum = 0;
    for (int64_t term = 0; term < terms; ++term) sum += code(output, term);
    start[output] = -zero * sum;
    scale[output] = x.scale * weight.scale_of(output);
  }
  uint64_t bytes =
      prepared.quads.size() + start.size() * sizeof(int32_t) + scale.size() * sizeof(float);
  const std::string name = "int8:" + std::to_string(network.values.size());
  int32_t quads;
  if (prepared.quads.empty()) {
    quads = add_view(network, weight.codes, prepared.quad_dims);
  } else {
    quads = add_constant(network, name, DType::kI8, prepared.quad_dims, std::move(prepared.quads));
  }
  const int32_t starts =
      add_constant(network, name + ":start", DType::kI32, {prepared.outputs}, std::move(start));
  const int32_t scales =
      add_constant(network, name + ":scale", DType::kF32, {prepared.outputs}, std::move(scale));
  node.inputs = {x.source, quads, starts, scales};
  if (bias != io::kNoValue || x.factors != io::kNoValue) node.inputs.push_back(bias);
  if (x.factors != io::kNoValue) node.inputs.push_back(x.factors);
  node.op = op;
  node.domain = kFusedDomain;
  node.attributes[kXScale] = static_cast<double>(x.scale);
  node.attributes[kXZero] = static_cast<int64_t>(x.zero);
  return bytes;
}

// A bias that is a constant vector of `columns`, or none (true), or another (false).
bool vector_or_none(const io::Network& network, int32_t value, int64_t columns) {
  if (value == io::kNoValue) return true;
  const TensorRecord* record = constant_of(network, value);
  return record != nullptr && record->dtype == DType::kF32 &&
         record->shape == std::vector<int64_t>{columns};
}

// False, too, for a window that breaks a rule: planning refuses it, by the node's name.
bool window_fits_codes(const NetworkNode& node, const std::vector<int64_t>& kernel) {
  try {
    return fits_codes(operators::read_window(operators::window_attributes(node), kernel));
  } catch (const Error&) {
    return false;
  }
}

std::optional<uint64_t> fuse_conv(io::Network& network, NetworkNode& node, const RoundedValue& x,
                                  const CodedWeight& weight) {
  const std::vector<int64_t> shape = weight.codes.shape;
  if (shape.size() < 3 || shape.size() > 4 || node.integer("group", 1) != 1) return {};
  if (!check_dims(shape).empty() || !vector_or_none(network, input_of(node, 2), shape[0]))
    return {};
  if (weight.scale.elements() != 1 && weight.axis != 0) return {};
  const int64_t maps = shape[0], channels = shape[1],
                taps = std::accumulate(shape.begin() + 2, shape.end(), int64_t{1},
                                       std::multiplies<>());
  if (!fits_sum(channels * taps) || maps == 0) return {};
  if (!window_fits_codes(node, {shape.begin() + 2, shape.end()})) return {};
  const auto code = [&codes = weight.codes, channels, taps](int64_t map, int64_t term) {
    return element<int8_t>(codes, map * channels * taps + term);
  };
  Prepared prepared;
  prepared.outputs = maps;
  const int64_t quads = quads_of(channels);
  prepared.quad_dims = {maps, 4 * quads * taps};
  if (taps > 1 || channels % 4 != 0) {
    prepared.quads.resize(maps * 4 * quads * taps);
    for (int64_t map = 0; map < maps; ++map) {
      for (int64_t term = 0; term < channels * taps; ++term) {
        const int64_t channel = term / taps, tap = term % taps;
        prepared.quads[((map * quads + channel / 4) * taps + tap) * 4 + channel % 4] =
            code(map, term);
      }
    }
  }
  const int32_t bias = input_of(node, 2);
  const uint64_t bytes = rewrite(network, node, "Int8Conv", x, weight, std::move(prepared),
                                 channels * taps, bias, code);
  node.attributes[kWeightShape] = shape;
  return bytes;
}

// a [.., inner] times the weight [inner, columns], or its transposition.
std::optional<uint64_t> fuse_matmul(io::Network& network, NetworkNode& node, const RoundedValue& x,
                                    const CodedWeight& weight, bool transposed, int32_t bias) {
  const std::vector<int64_t>& shape = weight.codes.shape;
  if (shape.size() != 2 || !check_dims(shape).empty()) return {};
  const int64_t inner = shape[transposed ? 1 : 0], columns = shape[transposed ? 0 : 1];
  if (weight.scale.elements() != 1 && weight.axis != (transposed ? 0 : 1)) return {};
  if (!fits_sum(inner) || columns == 0) return {};
  const auto code = [&codes = weight.codes, inner, columns, transposed](int64_t column,
                                                                        int64_t term) {
    return element<int8_t>(codes, transposed ? column * inner + term : term * columns + column);
  };
  Prepared prepared;
  prepared.outputs = columns;
  prepared.quad_dims = {quads_of(inner), 4 * columns};
  prepared.quads.resize(quads_of(inner) * 4 * columns);
  for (int64_t term = 0; term < inner; ++term) {
    for (int64_t column = 0; column < columns; ++column)
      prepared.quads[(term / 4 * columns + column) * 4 + term % 4] = code(column, term);
  }
  const uint64_t bytes =
      rewrite(network, node, "Int8MatMul", x, weight, std::move(prepared), inner, bias, code);
  node.attributes[kInner] = inner;
  return bytes;
}

}  // namespace

const TensorRecord* constant_of(const io::Network& network, int32_t value) {
  if (value == io::kNoValue) return nullptr;
  const auto& constant = network.values[value].constant;
  if (!constant || constant->is_packed()) return nullptr;
  const bool may_be_given =
      std::find(network.inputs.begin(), network.inputs.end(), value) != network.inputs.end();
  return may_be_given ? nullptr : &constant->record;
}

Producers::Producers(const io::Network& network)
    : network_(network), by_value_(network.values.size(), io::kNoValue) {
  for (size_t i = 0; i < network.nodes.size(); ++i) {
    for (const int32_t id : network.nodes[i].outputs) {
      if (id != io::kNoValue) by_value_[id] = static_cast<int32_t>(i);
    }
  }
}

const NetworkNode* Producers::node(int32_t value, std::string_view op) const {
  if (value == io::kNoValue || static_cast<size_t>(value) >= by_value_.size()) return nullptr;
  if (by_value_[value] == io::kNoValue) return nullptr;
  const NetworkNode& node = network_.nodes[by_value_[value]];
  return node.op == op && node.domain.empty() ? &node : nullptr;
}

bool is_float(const io::Network& network, int32_t value) {
  if (value == io::kNoValue) return false;
  const TensorRecord* constant = constant_of(network, value);
  return constant != nullptr ? constant->dtype == DType::kF32
                             : network.values[value].dtype == DType::kF32;
}

std::optional<RoundedValue> rounded_value(const io::Network& network, const Producers& producers,
                                          int32_t value) {
  const NetworkNode* dequantize = producers.node(value, "DequantizeLinear");
  if (dequantize == nullptr) return {};
  const NetworkNode* quantize = producers.node(input_of(*dequantize, 0), "QuantizeLinear");
  if (quantize == nullptr) return {};
  const auto same = [&](size_t input) {
    return input_of(*quantize, input) == input_of(*dequantize, input);
  };
  const TensorRecord *scale = constant_of(network, input_of(*quantize, 1)),
                     *zero = constant_of(network, input_of(*quantize, 2));
  if (!same(1) || !same(2) || scale == nullptr || scale->dtype != DType::kF32 ||
      scale->elements() != 1 || quantize->integer("block_size", 0) != 0)
    return {};
  RoundedValue rounded{input_of(*quantize, 0), element<float>(*scale, 0), 0};
  if (!(rounded.scale > 0) || !std::isfinite(rounded.scale)) return {};
  if (input_of(*quantize, 2) == io::kNoValue) {
    const int64_t type = quantize->integer("output_dtype", 0);
    if (type != 0 && type != 2) return {};
    return rounded;
  }
  if (zero == nullptr || zero->elements() != 1) return {};
  if (zero->dtype == DType::kU8)
    rounded.zero = element<uint8_t>(*zero, 0);
  else if (zero->dtype == DType::kI8)
    rounded.zero = element<int8_t>(*zero, 0) + 128;
  else
    return {};
  return rounded;
}

namespace {

// Looks through a product with a constant for each of `channels` channels along the axis
// `from_last` from the last one, where the other factor is known to have as many of them.
RoundedValue before_factors(io::Network& network, const Producers& producers, RoundedValue x,
                            int64_t channels, size_t from_last) {
  const NetworkNode* mul = producers.node(x.source, "Mul");
  if (mul == nullptr || mul->inputs.size() != 2) return x;
  for (const size_t side : {0, 1}) {
    const TensorRecord* factors = constant_of(network, mul->inputs[side]);
    const int32_t other = mul->inputs[1 - side];
    if (factors == nullptr || factors->dtype != DType::kF32 || !is_float(network, other)) continue;
    const auto& shape = network.values[other].shape;
    const std::vector<int64_t>& dims = factors->shape;
    if (!shape || shape->size() <= from_last || dims.size() > shape->size() ||
        dims.size() <= from_last || factors->elements() != channels ||
        dims[dims.size() - 1 - from_last] != channels ||
        (*shape)[shape->size() - 1 - from_last].value != channels)
      continue;
    x.source = other;
    x.factors = add_view(network, *factors, {channels});
    break;
  }
  return x;
}

}  // namespace

std::optional<uint64_t> fuse_int8(io::Network& network, const Producers& producers,
                                  NetworkNode& node) {
  const bool conv = node.op == "Conv", matmul = node.op == "MatMul", gemm = node.op == "Gemm";
  if (!node.domain.empty() || !(conv || matmul || gemm) || node.inputs.size() < 2) return {};
  const auto x = rounded_value(network, producers, node.inputs[0]);
  const auto weight = coded_weight(network, producers, node.inputs[1]);
  if (!x || !weight || !is_float(network, x->source)) return {};
  const std::vector<int64_t> shape = weight->codes.shape;
  if (conv) {
    if (shape.size() < 3 || node.integer("group", 1) != 1) return {};
    return fuse_conv(network, node,
                     before_factors(network, producers, *x, shape[1], shape.size() - 2), *weight);
  }
  if (shape.size() != 2) return {};
  const bool transposed = gemm && node.integer("transB", 0) != 0;
  const int64_t inner = shape[transposed ? 1 : 0], columns = shape[transposed ? 0 : 1];
  const auto& source = network.values[x->source].shape;
  const bool plain = matmul || (source && source->size() == 2 && node.number("alpha", 1) == 1 &&
                                node.number("beta", 1) == 1 && node.integer("transA", 0) == 0 &&
                                vector_or_none(network, input_of(node, 2), columns));
  if (!plain) return {};
  return fuse_matmul(network, node, before_factors(network, producers, *x, inner, 0), *weight,
                     transposed, gemm ? input_of(node, 2) : io::kNoValue);
}

}  // namespace packlight::runtime
