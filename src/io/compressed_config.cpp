#include "base/fail.h"
#include "io/compressed_tensors.h"
#include "io/config_fields.h"

namespace packlight::io {
namespace {

constexpr int64_t kActivationGroup =
    32;  // columns that share a scale of INT8 activations in our kernels

void read_weights(const ConfigFields& weights, CompressedScheme& scheme) {
  const std::string origin(weights.origin());
  const int64_t bits = weights.integer("num_bits", 8);
  if (weights.text("type", "int") != "int" || (bits != 4 && bits != 8)) {
    fail(ErrorCode::kUnsupported, "[hf] '{}': weights of {} {} bits; read are int 4 and int 8",
         origin, weights.text("type", "int"), bits);
  }
  scheme.bits = static_cast<int>(bits);
  scheme.symmetric = weights.boolean("symmetric", true);
  const std::string strategy =
      weights.text("strategy", weights.has("group_size") ? "group" : "tensor");
  if (strategy != "group" && strategy != "channel" && strategy != "tensor") {
    fail(ErrorCode::kUnsupported,
         "[hf] '{}': weight strategy '{}'; read are group, channel and tensor", origin, strategy);
  }
  if (strategy != "group") return;
  scheme.group_size = weights.integer("group_size");
  if (scheme.group_size < 1) {
    fail(ErrorCode::kCorrupt, "[hf] '{}': group_size {} is below 1", origin, scheme.group_size);
  }
}

void read_activations(const ConfigFields& activations, CompressedScheme& scheme) {
  const std::string strategy = activations.text("strategy", "tensor");
  const bool known =
      activations.integer("num_bits", 8) == 8 && activations.text("type", "int") == "int" &&
      activations.boolean("symmetric", true) && activations.boolean("dynamic", false) &&
      (strategy == "token" ||
       (strategy == "group" && activations.integer("group_size", 0) == kActivationGroup));
  if (!known) {
    fail(ErrorCode::kUnsupported,
         "[hf] '{}': input_activations that are not dynamic symmetric INT8 by token or by groups "
         "of {} columns",
         activations.origin(), kActivationGroup);
  }
  scheme.int8_activations = true;
}

CompressedScheme read_scheme(const Json& group, std::string_view origin) {
  const ConfigFields fields(group, origin);
  CompressedScheme scheme;
  const Json* targets = fields.find("targets");
  if (targets == nullptr || !targets->is_array()) {
    fail(ErrorCode::kCorrupt, "[hf] '{}': a config group without targets", origin);
  }
  for (const Json& target : *targets) {
    if (!target.is_string())
      fail(ErrorCode::kCorrupt, "[hf] '{}': target {} is no name", origin, target.dump());
    scheme.targets.emplace_back(target.get<std::string>(), origin);
  }
  const Json* weights = fields.find("weights");
  if (weights == nullptr)
    fail(ErrorCode::kUnsupported, "[hf] '{}': a config group without weights", origin);
  read_weights(ConfigFields(*weights, origin), scheme);
  if (const Json* activations = fields.find("input_activations")) {
    read_activations(ConfigFields(*activations, origin), scheme);
  }
  if (fields.has("output_activations")) {
    fail(ErrorCode::kUnsupported, "[hf] '{}': output_activations are not read", origin);
  }
  return scheme;
}

}  // namespace

bool CompressedTensors::present(const HfFolder& folder) {
  const std::string origin = (folder.path / "config.json").string();
  const ConfigFields config(folder.config, origin);
  const Json* quantization = config.find("quantization_config");
  if (quantization == nullptr) quantization = config.find("compression_config");  // its older name
  if (quantization == nullptr) return false;
  const std::string method = ConfigFields(*quantization, origin).text("quant_method", "");
  if (method == "compressed-tensors") return true;
  fail(ErrorCode::kUnsupported, "[hf] '{}': quant_method '{}'; only compressed-tensors is read",
       origin, method);
}

CompressedTensors::CompressedTensors(const HfFolder& folder)
    : folder_(folder), origin_((folder.path / "config.json").string()) {
  const ConfigFields config(folder.config, origin_);
  const Json* object = config.find("quantization_config");
  if (object == nullptr) object = config.find("compression_config");
  if (object == nullptr)
    fail(ErrorCode::kInvalidArgument, "[hf] '{}' has no quantization_config", origin_);
  const ConfigFields quantization(*object, origin_);
  const std::string format = quantization.text("format", "");
  if (format != "pack-quantized" && format != "int-quantized" && format != "mixed-precision") {
    fail(ErrorCode::kUnsupported,
         "[hf] '{}': format '{}'; read are pack-quantized and int-quantized", origin_, format);
  }
  const Json* groups = quantization.find("config_groups");
  if (groups == nullptr || !groups->is_object())
    fail(ErrorCode::kCorrupt, "[hf] '{}': no config_groups", origin_);
  for (const auto& [name, group] : groups->items()) schemes_.push_back(read_scheme(group, origin_));
}

const CompressedScheme& CompressedTensors::scheme(std::string_view module) const {
  const CompressedScheme* by_class = nullptr;
  for (const CompressedScheme& scheme : schemes_) {
    for (const ModulePattern& target : scheme.targets) {
      if (target.text() == "Linear" && by_class == nullptr) by_class = &scheme;
      if (target.matches(module)) return scheme;  // a module's own name goes before its class
    }
  }
  if (by_class != nullptr) return *by_class;
  fail(ErrorCode::kCorrupt,
       "[hf] '{}': module '{}' is stored compressed, but no config group has it as target", origin_,
       module);
}

bool CompressedTensors::int8_activations(std::string_view module) const {
  return scheme(module).int8_activations;
}

}  // namespace packlight::io
