#include "eval/verify.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>

#include "base/fail.h"
#include "exec/executor.h"
#include "runtime/decoder.h"

namespace packlight::eval {
namespace {

// Of a product's terms: all in f32, or exact integer sums of 32 columns and then f32.
constexpr double kFloatRounding = 0x1p-17, kIntegerRounding = 0x1p-20;
constexpr double kSafety = 2;
constexpr int64_t kTokens = 128;

// The executor with what the runtime adds to it, and noise on the hidden state where asked.
class Reference {
 public:
  Reference(const import::LanguageModel& model, std::span<const text::TokenId> tokens)
      : graph_(model.graph), hidden_size_(model.config.hidden_size), executor_(model.graph) {
    ids_ = at::empty({1, static_cast<int64_t>(tokens.size())}, at::kLong);
    std::copy(tokens.begin(), tokens.end(), ids_.data_ptr<int64_t>());
  }

  at::Tensor logits(double noise, uint64_t seed) {
    at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
    exec::Values live;
    for (const graph::ValueId input : graph_.inputs) {
      const bool positions = graph_.value(input).name == "position_ids";
      live[input] = positions ? at::arange(ids_.size(1), at::kLong).unsqueeze(0) : ids_;
    }
    for (const graph::BlockRange& block : graph::blocks(graph_)) {
      if (noise > 0) disturb(live, noise, generator);
      for (graph::NodeId node = block.begin; node < block.end; ++node) {
        if (graph_.node(node).op == "Attention") round_keys_and_values(graph_.node(node), live);
        executor_.run_nodes(node, node + 1, live);
      }
    }
    return live.at(graph_.outputs.at(0)).flatten(0, 1).to(at::kDouble);
  }

 private:
  void disturb(exec::Values& live, double noise, at::Generator& generator) const {
    for (auto& [id, value] : live) {
      if (value.scalar_type() != at::kFloat || value.dim() != 3 || value.size(-1) != hidden_size_) continue;
      value = value * (1 + noise * (2 * at::rand(value.sizes(), generator) - 1));
    }
  }

  static void round_keys_and_values(const graph::Node& attention, exec::Values& live) {
    for (const size_t input : {1, 2}) {
      at::Tensor& value = live.at(attention.inputs.at(input));
      value = value.to(at::kHalf).to(at::kFloat);
    }
  }

  const graph::Graph& graph_;
  int64_t hidden_size_;
  exec::Executor executor_;
  at::Tensor ids_;
};

at::Tensor runtime_logits(std::shared_ptr<const io::Package> package, std::span<const text::TokenId> tokens,
                          int threads) {
  const auto count = static_cast<int64_t>(tokens.size()), prompt = (count + 1) / 2;
  runtime::Decoder decoder(std::move(package), {.threads = threads, .context = count, .max_batch_tokens = prompt});
  at::Tensor out = at::empty({count, decoder.config().vocab_size}, at::kFloat);
  float* row = out.data_ptr<float>();
  // Half as a prompt, half token by token, as generation goes: other kernels, and keys and values from the cache.
  for (int64_t at = 0; at < count;) {
    std::vector<runtime::DecoderToken> batch;
    for (const int64_t end = at == 0 ? prompt : at + 1; at < end; ++at) batch.push_back({tokens[at], 0, true});
    const std::span<const float> logits = decoder.forward(batch);
    row = std::copy(logits.begin(), logits.end(), row);
  }
  return out.to(at::kDouble);
}

bool multiplies_integers_only(const io::PackageMetadata& metadata) {
  return std::all_of(metadata.formats.begin(), metadata.formats.end(),
                     [](const auto& weight) { return weight.second.int8_activations; });
}

double relative_difference(const at::Tensor& logits, const at::Tensor& reference) {
  const at::Tensor spread = reference - reference.mean(-1, true);
  return (logits - reference).norm().item<double>() / spread.norm().item<double>();
}

constexpr const char* kProse =
    "The lighthouse stood at the end of a long stone pier, and for more than a hundred years its keeper had climbed the "
    "same ninety-two steps every evening. When the lamp was lit, fishing boats far out in the bay turned toward home. In "
    "winter the wind threw spray against the glass, and the keeper wrote the hour, the weather and the names of the ships "
    "in a heavy book. Nobody read those books until a student of history found them in 1974, dried the pages, and learned "
    "from them how slowly the sea had risen, how the herring had gone, and on which night the great storm broke the pier.";

}  // namespace

LogitCheck check_logits(std::shared_ptr<const io::Package> package, const import::LanguageModel& decoded,
                        std::span<const text::TokenId> tokens, int threads) {
  const io::DecoderConfig& config = package->config();
  if (tokens.empty() || (config.max_positions > 0 && static_cast<int64_t>(tokens.size()) > config.max_positions)) {
    fail(ErrorCode::kInvalidArgument, "[eval] {} tokens to check with: the model takes 1 to {}", tokens.size(),
         config.max_positions);
  }
  for (const text::TokenId token : tokens) {
    if (token < 0 || token >= config.vocab_size) {
      fail(ErrorCode::kInvalidArgument, "[eval] token {} is not in the model's vocabulary of {}", token,
           config.vocab_size);
    }
  }
  Reference reference(decoded, tokens);
  const at::Tensor exact = reference.logits(0, 0);
  const double noise = multiplies_integers_only(package->metadata()) ? kIntegerRounding : kFloatRounding;
  double change = 0;
  for (const uint64_t seed : {1, 2, 3}) change = std::max(change, relative_difference(reference.logits(noise, seed), exact));
  return {.tokens = static_cast<int64_t>(tokens.size()),
          .difference = relative_difference(runtime_logits(std::move(package), tokens, threads), exact),
          .bound = kSafety * change + noise};
}

std::vector<text::TokenId> verification_tokens(const io::DecoderConfig& config, const text::Tokenizer* tokenizer) {
  const int64_t longest = config.max_positions > 0 ? std::min(kTokens, config.max_positions) : kTokens;
  std::vector<text::TokenId> tokens;
  if (tokenizer) {
    tokens = tokenizer->encode(kProse);
  } else {
    // Steps of a prime that divides no common vocabulary size visit it evenly.
    for (int64_t i = 0; i < longest; ++i) tokens.push_back(static_cast<text::TokenId>(i * 7919 % config.vocab_size));
  }
  tokens.resize(std::min<size_t>(tokens.size(), static_cast<size_t>(longest)));
  return tokens;
}

}  // namespace packlight::eval
