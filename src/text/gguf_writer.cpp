#include <algorithm>

#include "base/fail.h"
#include "text/sentencepiece_merges.h"
#include "text/shown.h"
#include "text/split_patterns.h"
#include "text/tokenizer_impl.h"

namespace packlight::text {
namespace {

using Entries = std::vector<std::pair<std::string, io::GgufValue>>;

// tokenizer.ggml.token_type, as gguf.md numbers them.
int32_t type_of(TokenKind kind) {
  switch (kind) {
    case TokenKind::kNormal:
      return 1;
    case TokenKind::kUnknown:
      return 2;
    case TokenKind::kControl:
      return 3;
    case TokenKind::kUserDefined:
      return 4;
    case TokenKind::kUnused:
      return 5;
    case TokenKind::kByte:
      return 6;
  }
  return 5;
}

// The name under which llama.cpp cuts words as this tokenizer does.
std::string pre_name(const TokenizerData& data) {
  if (!data.pre_name.empty()) return data.pre_name;
  std::string name;
  const auto& splits = data.splits;
  if (splits.size() == 1 && splits[0].rule == SplitRule::kGpt2) {
    name = "gpt-2";
  } else if (splits.size() == 2 && splits[0].rule == SplitRule::kDigits &&
             splits[1].rule == SplitRule::kGpt2) {
    name = "smollm";
  } else if (splits.size() == 1 && splits[0].rule == SplitRule::kRegex) {
    const std::string_view pattern = splits[0].pattern;
    if (pattern == kLlama3Pattern || pattern == kLlama3FoldedPattern) name = "llama-bpe";
    if (pattern == kQwen2Pattern || pattern == kQwen2FoldedPattern) name = "qwen2";
  }
  // llama.cpp ties this to the name.
  const bool same_merging = data.ignore_merges == (name == "llama-bpe");
  if (name.empty() || !same_merging || data.space_prefix != SpacePrefix::kNone) {
    fail(ErrorCode::kUnsupported,
         "[text] this tokenizer's pre-tokenizer ({} stages, ignore_merges {}, space prefix {}) is "
         "none that GGUF has a "
         "name for (gpt-2, smollm, llama-bpe, qwen2)",
         splits.size(), data.ignore_merges, data.space_prefix != SpacePrefix::kNone);
  }
  return name;
}

std::vector<std::string> merge_lines(const TokenizerData& data) {
  std::vector<MergeRule> rules = data.merges;
  std::stable_sort(rules.begin(), rules.end(),
                   [](const MergeRule& a, const MergeRule& b) { return a.rank < b.rank; });
  std::vector<std::string> lines;
  lines.reserve(rules.size());
  for (const MergeRule& rule : rules) {
    const std::string &left = data.pieces[rule.left], &right = data.pieces[rule.right];
    if (left.find(' ') != std::string::npos || right.find(' ') != std::string::npos) {
      fail(ErrorCode::kUnsupported,
           "[text] GGUF cannot hold the merge of '{}' and '{}': it parts them by a space",
           shown(left), shown(right));
    }
    lines.push_back(left + " " + right);
  }
  return lines;
}

void pad_pieces(int64_t vocab_size, TokenizerData* data) {
  for (auto id = static_cast<int64_t>(data->pieces.size()); id < vocab_size; ++id) {
    data->pieces.emplace_back();
    data->kinds.push_back(TokenKind::kUnused);
  }
  for (size_t id = 0; id < data->pieces.size(); ++id) {
    if (!data->pieces[id].empty()) continue;
    data->pieces[id] = fmt::format("[PAD{}]", id);
    data->kinds[id] = TokenKind::kUnused;
  }
}

// GGUF has one flag: BOS in front or not.
bool adds(const std::vector<TokenId>& ids, TokenId special, const char* name) {
  if (ids.empty()) return false;
  if (ids.size() != 1 || ids[0] != special) {
    fail(ErrorCode::kUnsupported,
         "[text] GGUF can add the {} token to a text and nothing else; this tokenizer adds {} "
         "tokens beginning with {}",
         name, ids.size(), ids[0]);
  }
  return true;
}

void add_model(const TokenizerData& data, Entries* out) {
  const auto add = [out](const char* key, auto value) {
    out->emplace_back(fmt::format("tokenizer.ggml.{}", key), io::GgufValue{std::move(value)});
  };
  add("model", std::string(data.byte_level ? "gpt2" : "llama"));
  add("pre", data.byte_level ? pre_name(data) : std::string("default"));
  add("tokens", data.pieces);
  if (data.byte_level) {
    add("merges", merge_lines(data));
  } else {
    std::vector<float> scores =
        data.scores.empty() ? derive_sentencepiece_scores(data) : data.scores;
    scores.resize(data.pieces.size(), 0.0f);
    add("scores", std::move(scores));
  }
  std::vector<int32_t> types(data.kinds.size());
  std::transform(data.kinds.begin(), data.kinds.end(), types.begin(), type_of);
  add("token_type", std::move(types));
}

}  // namespace

std::vector<std::pair<std::string, io::GgufValue>> Tokenizer::to_gguf(int64_t vocab_size) const {
  TokenizerData data = impl_->blob.data();
  if (vocab_size != 0 && vocab_size < this->vocab_size()) {
    fail(ErrorCode::kInvalidArgument, "[text] {} tokens do not fit a vocabulary of {}",
         this->vocab_size(), vocab_size);
  }
  for (const SplitStage& stage : data.splits) {
    if (!data.byte_level) {
      fail(ErrorCode::kUnsupported,
           "[text] GGUF has no pre-tokenizer for SentencePiece; this tokenizer has one ({})",
           stage.rule == SplitRule::kMetaspace ? "Metaspace with split" : "Split");
    }
  }
  pad_pieces(vocab_size, &data);
  Entries out;
  add_model(data, &out);
  const auto add_id = [&](const char* key, TokenId id) {
    if (id < 0) return;
    out.emplace_back(fmt::format("tokenizer.ggml.{}_token_id", key),
                     io::GgufValue{static_cast<uint32_t>(id)});
  };
  add_id("bos", data.bos);
  add_id("eos", data.eos);
  add_id("unknown", data.unk);
  add_id("padding", data.pad);
  const auto add_flag = [&](const char* key, bool value) {
    out.emplace_back(fmt::format("tokenizer.ggml.{}", key), io::GgufValue{value});
  };
  add_flag("add_bos_token", adds(data.prefix_ids, data.bos, "BOS"));
  add_flag("add_eos_token", adds(data.suffix_ids, data.eos, "EOS"));
  add_flag("add_space_prefix", data.space_prefix != SpacePrefix::kNone);
  if (!data.chat_template.empty()) {
    out.emplace_back("tokenizer.chat_template", io::GgufValue{data.chat_template});
  }
  return out;
}

}  // namespace packlight::text
