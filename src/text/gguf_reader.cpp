#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <unordered_map>

#include "base/fail.h"
#include "text/sentencepiece_merges.h"
#include "text/shown.h"
#include "text/split_patterns.h"
#include "text/tokenizer_impl.h"
#include "text/utf8.h"

namespace packlight::text {
namespace {

using Index = std::unordered_map<std::string_view, uint32_t>;

// tokenizer.ggml.token_type, as gguf.md numbers them.
TokenKind kind_of(int64_t type) {
  switch (type) {
    case 1:
      return TokenKind::kNormal;
    case 2:
      return TokenKind::kUnknown;
    case 3:
      return TokenKind::kControl;
    case 4:
      return TokenKind::kUserDefined;
    case 6:
      return TokenKind::kByte;
    default:
      return TokenKind::kUnused;  // 5; and 0 or unknown ones, which llama.cpp never writes out
                                  // either
  }
}

template <class... Types>
std::vector<double> numbers(const io::GgufFile& file, std::string_view key,
                            const io::GgufValue& value) {
  std::vector<double> out;
  const bool known = ([&] {
    const auto* list = std::get_if<std::vector<Types>>(&value.value);
    if (list != nullptr) out.assign(list->begin(), list->end());
    return list != nullptr;
  }() || ...);
  if (!known)
    fail(ErrorCode::kCorrupt, "[text] '{}': '{}' is no list of the expected numbers", file.path,
         key);
  return out;
}

void read_pieces(const io::GgufFile& file, TokenizerData* data) {
  data->pieces = file.strings("tokenizer.ggml.tokens");
  for (size_t i = 0; i < data->pieces.size(); ++i) {
    if (data->pieces[i].empty())
      data->pieces[i] = fmt::format("[EMPTY_{}]", i);  // llama.cpp's name for it
  }
  data->kinds.assign(data->pieces.size(), TokenKind::kNormal);
  constexpr std::string_view kTypes = "tokenizer.ggml.token_type";
  if (const io::GgufValue* types = file.find(kTypes)) {
    const std::vector<double> values =
        numbers<int32_t, uint32_t, int64_t, uint64_t, uint8_t>(file, kTypes, *types);
    if (values.size() < data->pieces.size()) {
      fail(ErrorCode::kCorrupt, "[text] '{}': {} token types for {} tokens", file.path,
           values.size(), data->pieces.size());
    }
    for (size_t i = 0; i < data->kinds.size(); ++i)
      data->kinds[i] = kind_of(static_cast<int64_t>(values[i]));
  }
}

// Old converters marked some end and fill-in-the-middle tokens as ordinary text; llama.cpp takes
// these names for control tokens whatever the file says.
void mark_control_tokens(const io::GgufFile& file, const Index& index, TokenizerData* data) {
  struct Names {
    std::string_view key, old_key;  // a file that names the token itself is believed
    std::vector<std::string_view> pieces;
  };
  static const std::vector<Names> kNames = {
      {"",
       "",
       {"<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>",
        "<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]",
        "<|end_of_text|>", "<end_of_utterance>", "<eos>"}},
      {"fim_pre",
       "prefix",
       {"<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<PRE>", "\u2581<PRE>", "<|code_prefix|>",
        "<|prefix|>"}},
      {"fim_suf",
       "suffix",
       {"<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<SUF>", "\u2581<SUF>", "<|code_suffix|>",
        "<|suffix|>"}},
      {"fim_mid",
       "middle",
       {"<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<MID>", "\u2581<MID>",
        "<|code_middle|>"}},
      {"fim_pad", "", {"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"}},
      {"fim_rep", "", {"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"}},
      {"fim_sep", "", {"<|file_sep|>"}}};
  const auto names_it = [&](std::string_view key) {
    return !key.empty() && file.find(fmt::format("tokenizer.ggml.{}_token_id", key)) != nullptr;
  };
  for (const Names& names : kNames) {
    if (names_it(names.key) || names_it(names.old_key)) continue;
    for (const std::string_view piece : names.pieces) {
      const auto it = index.find(piece);
      if (it != index.end()) data->kinds[it->second] = TokenKind::kControl;
    }
  }
  for (const std::string_view piece :
       {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"}) {
    const auto it = index.find(piece);
    if (it != index.end()) data->kinds[it->second] = TokenKind::kUserDefined;
  }
}

void read_merges(const io::GgufFile& file, const Index& index, TokenizerData* data) {
  const std::vector<std::string>& lines = file.strings("tokenizer.ggml.merges");
  data->merges.reserve(lines.size());
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string_view line = lines[i];
    const size_t space = line.find(' ', 1);
    const auto token = [&](std::string_view piece) {
      const auto it = index.find(piece);
      if (it == index.end()) {
        fail(ErrorCode::kCorrupt,
             "[text] '{}': merge {} '{}' needs the token '{}', which is not in the vocabulary",
             file.path, i, shown(line), shown(piece));
      }
      return it->second;
    };
    if (space == std::string_view::npos) {
      fail(ErrorCode::kCorrupt, "[text] '{}': merge {} '{}' is not two pieces with a space between",
           file.path, i, shown(line));
    }
    const std::string_view left = line.substr(0, space), right = line.substr(space + 1);
    data->merges.push_back({token(left), token(right),
                            token(std::string(left) + std::string(right)),
                            static_cast<uint32_t>(i)});
  }
}

void read_byte_level(const io::GgufFile& file, const Index& index, TokenizerData* data) {
  data->pre_name = file.text("tokenizer.ggml.pre", "");
  bool adds_bos = false;
  if (data->pre_name == "gpt-2") {
    data->splits = {{SplitRule::kGpt2, ""}};
  } else if (data->pre_name == "smollm") {
    data->splits = {{SplitRule::kDigits, ""}, {SplitRule::kGpt2, ""}};
  } else if (data->pre_name == "llama-bpe" || data->pre_name == "llama3" ||
             data->pre_name == "llama-v3") {
    data->splits = {{SplitRule::kRegex, std::string(kLlama3Pattern)}};
    data->ignore_merges = true;
    adds_bos = true;
  } else if (data->pre_name == "qwen2" || data->pre_name == "deepseek-r1-qwen") {
    data->splits = {{SplitRule::kRegex, std::string(kQwen2Pattern)}};
  } else {
    fail(ErrorCode::kUnsupported,
         "[text] '{}': tokenizer.ggml.pre is '{}'; known pre-tokenizers are gpt-2, smollm, "
         "llama-bpe, qwen2",
         file.path, shown(data->pre_name));
  }
  read_merges(file, index, data);
  if (file.boolean("tokenizer.ggml.add_bos_token", adds_bos)) data->prefix_ids.push_back(data->bos);
  if (file.boolean("tokenizer.ggml.add_eos_token", false)) data->suffix_ids.push_back(data->eos);
}

void read_sentencepiece(const io::GgufFile& file, TokenizerData* data) {
  data->byte_level = false;
  data->escape_spaces = data->normalizer_escapes = true;
  data->pre_name = file.text("tokenizer.ggml.pre", "default");
  if (file.boolean("tokenizer.ggml.add_space_prefix", true))
    data->space_prefix = SpacePrefix::kAlways;
  constexpr std::string_view kScoresKey = "tokenizer.ggml.scores";
  const io::GgufValue* scores = file.find(kScoresKey);
  data->scores.assign(data->pieces.size(), 0.0f);
  if (scores != nullptr) {
    const std::vector<double> values = numbers<float, double, int32_t>(file, kScoresKey, *scores);
    if (values.size() < data->pieces.size()) {
      fail(ErrorCode::kCorrupt, "[text] '{}': {} scores for {} tokens", file.path, values.size(),
           data->pieces.size());
    }
    for (size_t i = 0; i < data->scores.size(); ++i)
      data->scores[i] = static_cast<float>(values[i]);
  }
  derive_sentencepiece_merges(data);
  if (file.boolean("tokenizer.ggml.add_bos_token", true)) data->prefix_ids.push_back(data->bos);
  if (file.boolean("tokenizer.ggml.add_eos_token", false)) data->suffix_ids.push_back(data->eos);
}

TokenId special_id(const io::GgufFile& file, std::string_view name, TokenId fallback,
                   size_t count) {
  const int64_t id = file.integer(fmt::format("tokenizer.ggml.{}_token_id", name), fallback);
  // llama.cpp, too, ignores an id outside the vocabulary (some converters write 2^32 - 1 for
  // "none").
  if (id >= 0 && id < static_cast<int64_t>(count)) return static_cast<TokenId>(id);
  return fallback >= 0 && fallback < static_cast<TokenId>(count) ? fallback : -1;
}

void read_special_ids(const io::GgufFile& file, bool sentencepiece, TokenizerData* data) {
  const size_t count = data->pieces.size();
  data->bos = special_id(file, "bos", sentencepiece ? 1 : -1, count);
  data->eos = special_id(file, "eos", sentencepiece ? 2 : -1, count);
  data->unk = special_id(file, "unknown", sentencepiece ? 0 : -1, count);
  data->pad = special_id(file, "padding", -1, count);
}

void check_added_ids(const TokenizerData& data) {
  for (const auto* ids : {&data.prefix_ids, &data.suffix_ids}) {
    if (!ids->empty() && ids->front() < 0) {
      fail(ErrorCode::kCorrupt, "[text] '{}': asks to add a {} token but names none", data.origin,
           ids == &data.prefix_ids ? "BOS" : "EOS");
    }
  }
}

}  // namespace

Tokenizer Tokenizer::from_gguf(const io::GgufFile& file) {
  const std::string_view model = file.text("tokenizer.ggml.model");
  if (model != "gpt2" && model != "llama") {
    fail(ErrorCode::kUnsupported,
         "[text] '{}': tokenizer.ggml.model is '{}'; known are gpt2 (byte-level BPE) and llama "
         "(SentencePiece BPE)",
         file.path, shown(model));
  }
  TokenizerData data;
  data.origin = file.path;
  data.chat_template = file.text("tokenizer.chat_template", "");
  read_pieces(file, &data);
  Index index;
  for (uint32_t i = 0; i < data.pieces.size(); ++i) index.emplace(data.pieces[i], i);
  mark_control_tokens(file, index, &data);
  read_special_ids(file, model == "llama", &data);
  if (model == "gpt2") {
    read_byte_level(file, index, &data);
  } else {
    read_sentencepiece(file, &data);
  }
  check_added_ids(data);
  for (uint32_t i = 0; i < data.pieces.size(); ++i) {
    const TokenKind kind = data.kinds[i];
    const bool special = kind == TokenKind::kControl || kind == TokenKind::kUnknown;
    if (special || kind == TokenKind::kUserDefined) {
      AddedToken token;
      token.id = i;
      token.special = special;
      data.added.push_back(token);
    }
  }
  return open_tokenizer(data);
}

}  // namespace packlight::text
