#include <fmt/format.h>
#include <ATen/ATen.h>

#include <cmath>
#include <map>

#include "base/fail.h"
#include "graph/weight.h"
#include "import/import.h"

namespace packlight::import {
namespace {

using graph::ValueId;
using Attributes = std::map<std::string, graph::Attribute>;

constexpr int64_t kOnnxFloat = 1;  // TensorProto.DataType.FLOAT

// A vector in whatever form it came becomes a dense tensor of rank 1: few bytes, and what operators
// expect.
graph::Weight as_vector(graph::Weight weight) {
  const auto* encoded = std::get_if<codec::EncodedTensor>(&weight);
  if (encoded == nullptr || encoded->rows != 1) return weight;
  at::Tensor values = at::empty({encoded->cols}, at::kFloat);
  codec::decode_rows(*encoded, 0, 1, values.data_ptr<float>());
  return values;
}

class DecoderBuilder {
 public:
  DecoderBuilder(const io::DecoderConfig& config,
                 const std::function<graph::Weight(const io::TensorSpec&)>& weight)
      : config_(config) {
    graph_.name = config.name.empty() ? config.family : config.name;
    const graph::Shape tokens{std::string("batch"), std::string("sequence")};
    input_ids_ = graph_.add_input("input_ids", graph::ElementType::kI64, tokens);
    position_ids_ = graph_.add_input("position_ids", graph::ElementType::kI64, tokens);
    for (const io::TensorSpec& spec : io::decoder_tensors(config)) add_weight(spec, weight(spec));
  }

  graph::Graph build() {
    block_ = "embed";
    ValueId hidden = node("Gather", "model.embed_tokens",
                          {weights_.at("model.embed_tokens.weight"), input_ids_});
    add_angles();
    for (int64_t layer = 0; layer < config_.layers(); ++layer) {
      block_ = "model.layers." + std::to_string(layer);
      hidden = add_attention(layer, hidden);
      hidden = add_mlp(hidden);
    }
    block_ = "head";
    hidden = norm("model.norm", hidden);
    const char* head = config_.tied_embeddings ? "model.embed_tokens.weight" : "lm_head.weight";
    graph_.outputs = {product("lm_head", hidden, weights_.at(head), "logits")};
    graph::verify(graph_);
    graph::infer_shapes(graph_);
    return std::move(graph_);
  }

 private:
  void add_weight(const io::TensorSpec& spec, graph::Weight weight) {
    if (spec.is_vector) weight = as_vector(std::move(weight));
    const std::vector<int64_t> wanted = spec.is_vector ? std::vector<int64_t>{spec.cols}
                                                       : std::vector<int64_t>{spec.rows, spec.cols};
    const std::vector<int64_t> got = graph::weight_shape(weight);
    if (got != wanted) {
      fail(ErrorCode::kCorrupt, "[import] tensor '{}' has shape [{}], the config asks for [{}]",
           spec.name, fmt::join(got, ", "), fmt::join(wanted, ", "));
    }
    if (!graph::is_float(graph::weight_type(weight))) {
      fail(ErrorCode::kUnsupported,
           "[import] tensor '{}' is stored as {}, which is no type for weights", spec.name,
           graph::weight_format_name(weight));
    }
    weights_[spec.name] = graph_.add_weight(spec.name, std::move(weight));
  }

  // A node with one output of the same name.
  ValueId node(std::string op, const std::string& name, std::vector<ValueId> inputs,
               Attributes attributes = {}, std::string output = "") {
    if (output.empty()) output = name;
    return graph_.add_node(std::move(op), name, std::move(inputs), {output}, std::move(attributes),
                           block_)[0];
  }

  // x W^T: the weight keeps its checkpoint orientation [out, in].
  ValueId product(const std::string& name, ValueId x, ValueId weight, std::string output = "") {
    const ValueId turned =
        node("Transpose", name + ".transpose", {weight}, {{"perm", std::vector<int64_t>{1, 0}}});
    return node("MatMul", name, {x, turned}, {}, std::move(output));
  }

  ValueId linear(const std::string& name, ValueId x) {
    const ValueId y = product(name, x, weights_.at(name + ".weight"));
    const auto bias = weights_.find(name + ".bias");
    return bias == weights_.end() ? y : node("Add", name + ".add_bias", {y, bias->second});
  }

  ValueId norm(const std::string& name, ValueId x) {
    return node("RMSNormalization", name, {x, weights_.at(name + ".weight")},
                {{"axis", int64_t{-1}}, {"epsilon", config_.rms_epsilon}});
  }

  // The cosines and sines of position * frequency, once for all layers: [batch, sequence, head_dim
  // / 2].
  void add_angles() {
    const std::vector<float> frequencies = io::rotary_inverse_frequencies(config_);
    at::Tensor tensor = at::empty({static_cast<int64_t>(frequencies.size())}, at::kFloat);
    std::copy(frequencies.begin(), frequencies.end(), tensor.data_ptr<float>());
    const ValueId frequency = graph_.add_weight("rotary.inverse_frequencies", tensor);
    const ValueId axes = graph_.add_weight("rotary.position_axes", at::full({1}, 2, at::kLong));
    const ValueId positions =
        node("Cast", "rotary.positions", {position_ids_}, {{"to", kOnnxFloat}});
    const ValueId column = node("Unsqueeze", "rotary.position_column", {positions, axes});
    const ValueId angles = node("Mul", "rotary.angles", {column, frequency});
    cosine_ = node("Cos", "rotary.cosine", {angles});
    sine_ = node("Sin", "rotary.sine", {angles});
  }

  ValueId add_attention(int64_t layer, ValueId hidden) {
    const std::string prefix = block_ + ".self_attn";
    const int64_t heads = config_.heads[layer], kv_heads = config_.kv_heads[layer];
    const ValueId x = norm(block_ + ".input_layernorm", hidden);
    const ValueId q = linear(prefix + ".q_proj", x), k = linear(prefix + ".k_proj", x);
    const ValueId v = linear(prefix + ".v_proj", x);
    const ValueId q_turned =
        node("RotaryEmbedding", prefix + ".q_rotary", {q, cosine_, sine_}, {{"num_heads", heads}});
    const ValueId k_turned = node("RotaryEmbedding", prefix + ".k_rotary", {k, cosine_, sine_},
                                  {{"num_heads", kv_heads}});
    Attributes attributes{{"is_causal", int64_t{1}},
                          {"q_num_heads", heads},
                          {"kv_num_heads", kv_heads},
                          {"scale", 1 / std::sqrt(static_cast<double>(config_.head_dim))}};
    if (config_.sliding_window > 0) attributes["local_window_size"] = config_.sliding_window;
    const ValueId mixed =
        node("Attention", prefix + ".attention", {q_turned, k_turned, v}, std::move(attributes));
    return node("Add", block_ + ".attention_residual", {hidden, linear(prefix + ".o_proj", mixed)});
  }

  ValueId add_mlp(ValueId hidden) {
    const std::string prefix = block_ + ".mlp";
    const ValueId x = norm(block_ + ".post_attention_layernorm", hidden);
    const ValueId gate = linear(prefix + ".gate_proj", x), up = linear(prefix + ".up_proj", x);
    const ValueId sigmoid = node("Sigmoid", prefix + ".sigmoid", {gate});
    const ValueId silu = node("Mul", prefix + ".silu", {gate, sigmoid});
    const ValueId product = node("Mul", prefix + ".gated", {silu, up});
    return node("Add", block_ + ".mlp_residual", {hidden, linear(prefix + ".down_proj", product)});
  }

  const io::DecoderConfig& config_;
  graph::Graph graph_;
  std::map<std::string, ValueId> weights_;
  std::string block_;
  ValueId input_ids_ = graph::kNone, position_ids_ = graph::kNone, cosine_ = graph::kNone,
          sine_ = graph::kNone;
};

}  // namespace

graph::Graph build_decoder_graph(
    const io::DecoderConfig& config,
    const std::function<graph::Weight(const io::TensorSpec&)>& weight) {
  return DecoderBuilder(config, weight).build();
}

}  // namespace packlight::import
