#include "runtime/network/fused_activation.h"

#include <cstring>
#include <limits>

#include "runtime/network/fuse_int8.h"

namespace packlight::runtime {
namespace {

using kernels::Activation;
using kernels::ActivationKind;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr const char *kKind = "activation", *kA = "activation_a", *kB = "activation_b";

float number_of(const io::NetworkNode& node, std::string_view attribute, double fallback) {
  return static_cast<float>(node.number(attribute, fallback));
}

// Input `index` as a constant number; `fallback` where it is absent.
std::optional<float> bound_of(const io::Network& network, const io::NetworkNode& node, size_t index,
                              float fallback) {
  if (index >= node.inputs.size() || node.inputs[index] == io::kNoValue) return fallback;
  const io::TensorRecord* constant = constant_of(network, node.inputs[index]);
  if (constant == nullptr || constant->dtype != codec::DType::kF32 ||
      constant->bytes.size() != sizeof(float))
    return {};
  float value;
  std::memcpy(&value, constant->bytes.data(), sizeof value);
  return value;
}

std::optional<Activation> clip_of(const io::Network& network, const io::NetworkNode& node) {
  const std::optional<float> low = bound_of(network, node, 1, -kInfinity),
                             high = bound_of(network, node, 2, kInfinity);
  if (!low || !high || *low != *low || *high != *high) return {};
  return Activation{ActivationKind::kClamp, *low, *high};
}

}  // namespace

std::optional<Activation> activation_of(const io::Network& network, const io::NetworkNode& node) {
  if (!node.domain.empty()) return {};
  if (node.op == "Relu") return Activation{ActivationKind::kClamp, 0, kInfinity};
  if (node.op == "Clip") return clip_of(network, node);
  if (node.op == "LeakyRelu")
    return Activation{ActivationKind::kLeakyRelu, number_of(node, "alpha", 0.01)};
  if (node.op == "HardSigmoid") {
    return Activation{ActivationKind::kHardSigmoid, number_of(node, "alpha", 0.2),
                      number_of(node, "beta", 0.5)};
  }
  if (node.op == "HardSwish") return Activation{ActivationKind::kHardSwish};
  if (node.op == "Sigmoid") return Activation{ActivationKind::kSigmoid};
  return {};
}

void set_fused_activation(const Activation& activation, io::NetworkNode& node) {
  node.attributes[kKind] = static_cast<int64_t>(activation.kind);
  node.attributes[kA] = static_cast<double>(activation.a);
  node.attributes[kB] = static_cast<double>(activation.b);
}

Activation fused_activation(const io::NetworkNode& node) {
  const int64_t kind = node.integer(kKind, 0);
  if (kind < 0 || kind > static_cast<int64_t>(ActivationKind::kSilu))
    fail(ErrorCode::kCorrupt, "{}: no activation is number {}", node.label(), kind);
  return {static_cast<ActivationKind>(kind), number_of(node, kA, 0), number_of(node, kB, 0)};
}

}  // namespace packlight::runtime
