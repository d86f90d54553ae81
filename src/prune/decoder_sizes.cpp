#include "prune/decoder_sizes.h"

#include <string>

#include "base/fail.h"

namespace packlight::prune {

void follow_weights(import::LanguageModel& model) {
  io::DecoderConfig& config = model.config;
  const auto size = [&](const std::string& name, int axis) {
    const auto id = model.graph.find(name);
    if (!id || !model.graph.value(*id).shape)
      fail(ErrorCode::kInternal, "[prune] '{}': weight '{}' is missing", model.path.string(), name);
    return (*model.graph.value(*id).shape)[axis].value;
  };
  config.hidden_size = size("model.embed_tokens.weight", 1);
  for (int64_t i = 0; i < config.layers(); ++i) {
    const std::string layer = "model.layers." + std::to_string(i);
    config.heads[i] = size(layer + ".self_attn.q_proj.weight", 0) / config.head_dim;
    config.kv_heads[i] = size(layer + ".self_attn.k_proj.weight", 0) / config.head_dim;
    config.ffn_size[i] = size(layer + ".mlp.gate_proj.weight", 0);
  }
  for (const graph::Node& node : model.graph.nodes()) {
    if (node.op == "RMSNormalization") config.rms_epsilon = node.number("epsilon", config.rms_epsilon);
  }
  io::validate(config, model.path.string());
}

}  // namespace packlight::prune
