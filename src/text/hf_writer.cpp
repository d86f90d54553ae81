#include <algorithm>

#include "base/fail.h"
#include "base/json.h"
#include "text/shown.h"
#include "text/tokenizer_impl.h"
#include "text/utf8.h"

namespace packlight::text {
namespace {

constexpr const char* kSpaceMark = "\u2581";

void check_token(std::string_view piece, size_t id) {
  if (is_utf8(piece)) return;
  fail(ErrorCode::kUnsupported, "[text] JSON cannot hold the token {} '{}': it is not UTF-8", id,
       shown(piece));
}

std::string json_string(std::string_view text) { return Json(text).dump(); }

Json sequence(const char* member, std::vector<Json> parts) {
  if (parts.empty()) return nullptr;
  if (parts.size() == 1) return parts[0];
  return {{"type", "Sequence"}, {member, std::move(parts)}};
}

Json replace(const char* from, const char* to) {
  return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}

Json added_tokens(const TokenizerData& data) {
  Json out = Json::array();
  std::vector<AddedToken> added = data.added;
  std::sort(added.begin(), added.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  for (const AddedToken& token : added) {
    out.push_back({{"id", token.id},
                   {"content", data.pieces[token.id]},
                   {"single_word", token.single_word},
                   {"lstrip", token.lstrip},
                   {"rstrip", token.rstrip},
                   {"normalized", token.normalized},
                   {"special", token.special}});
  }
  return out;
}

Json normalizer(const TokenizerData& data) {
  std::vector<Json> parts;
  if (data.compose) parts.push_back({{"type", "NFC"}});
  if (data.space_prefix == SpacePrefix::kAlways)
    parts.push_back({{"type", "Prepend"}, {"prepend", kSpaceMark}});
  if (data.escape_spaces && data.normalizer_escapes) parts.push_back(replace(" ", kSpaceMark));
  return sequence("normalizers", std::move(parts));
}

Json byte_level(bool add_prefix_space, bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

Json metaspace(const TokenizerData& data) {
  const char* scheme = data.space_prefix == SpacePrefix::kUnlessSpace        ? "always"
                       : data.space_prefix == SpacePrefix::kFirstUnlessSpace ? "first"
                                                                             : "never";
  const bool split = !data.splits.empty() && data.splits[0].rule == SplitRule::kMetaspace;
  return {{"type", "Metaspace"},
          {"replacement", kSpaceMark},
          {"prepend_scheme", scheme},
          {"split", split}};
}

Json pre_tokenizer(const TokenizerData& data) {
  std::vector<Json> parts;
  if (data.escape_spaces && !data.normalizer_escapes) parts.push_back(metaspace(data));
  const bool add_prefix_space = data.byte_level && data.space_prefix == SpacePrefix::kUnlessSpace;
  bool bytes_done = false;
  for (const SplitStage& stage : data.splits) {
    switch (stage.rule) {
      case SplitRule::kGpt2:
        parts.push_back(byte_level(add_prefix_space, true));
        bytes_done = true;
        break;
      case SplitRule::kDigits:
        parts.push_back({{"type", "Digits"}, {"individual_digits", true}});
        break;
      case SplitRule::kDigitRuns:
        parts.push_back({{"type", "Digits"}, {"individual_digits", false}});
        break;
      case SplitRule::kMetaspace:
        break;
      case SplitRule::kRegex:
        parts.push_back({{"type", "Split"},
                         {"pattern", {{"Regex", stage.pattern}}},
                         {"behavior", "Isolated"},
                         {"invert", false}});
        break;
    }
  }
  if (data.byte_level && !bytes_done) parts.push_back(byte_level(add_prefix_space, false));
  return sequence("pretokenizers", std::move(parts));
}

Json post_processor(const TokenizerData& data) {
  if (data.prefix_ids.empty() && data.suffix_ids.empty()) return nullptr;
  Json single = Json::array(), pair = Json::array(), tokens = Json::object();
  const auto add = [&](Json* list, const std::vector<TokenId>& ids, int type) {
    for (const TokenId id : ids) {
      const std::string& piece = data.pieces[id];
      list->push_back({{"SpecialToken", {{"id", piece}, {"type_id", type}}}});
      tokens[piece] = {{"id", piece}, {"ids", Json::array({id})}, {"tokens", Json::array({piece})}};
    }
  };
  const auto add_text = [&](Json* list, const char* name, int type) {
    add(list, data.prefix_ids, type);
    list->push_back({{"Sequence", {{"id", name}, {"type_id", type}}}});
    add(list, data.suffix_ids, type);
  };
  add_text(&single, "A", 0);
  add_text(&pair, "A", 0);
  add_text(&pair, "B", 1);
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"pair", pair},
          {"special_tokens", tokens}};
}

Json decoder(const TokenizerData& data) {
  if (data.byte_level) return byte_level(true, true);
  std::vector<Json> parts = {
      replace(kSpaceMark, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}};
  if (data.space_prefix != SpacePrefix::kNone) {
    parts.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  return sequence("decoders", std::move(parts));
}

// One entry a line, so that a vocabulary can be read and compared; nlohmann's ordered objects are
// quadratic at this size.
std::string vocabulary(const TokenizerData& data) {
  std::string out = "{";
  for (size_t id = 0; id < data.pieces.size(); ++id) {
    if (data.pieces[id].empty()) continue;
    out += out.size() > 1 ? ",\n" : "\n";
    out += fmt::format("{}:{}", json_string(data.pieces[id]), id);
  }
  return out + "}";
}

std::string merges(const TokenizerData& data) {
  std::vector<MergeRule> rules = data.merges;
  // Scores may tie; then the cuts of one piece stay together, which the way back to scores needs.
  std::stable_sort(rules.begin(), rules.end(), [](const MergeRule& a, const MergeRule& b) {
    return a.rank != b.rank ? a.rank < b.rank : a.result < b.result;
  });
  const auto has_space = [&](uint32_t id) {
    return data.pieces[id].find(' ') != std::string::npos;
  };
  const bool as_pairs = std::any_of(rules.begin(), rules.end(), [&](const MergeRule& rule) {
    return has_space(rule.left) || has_space(rule.right);
  });
  std::string out = "[";
  for (const MergeRule& rule : rules) {
    out += out.size() > 1 ? ",\n" : "\n";
    const std::string &left = data.pieces[rule.left], &right = data.pieces[rule.right];
    out += as_pairs ? fmt::format("[{},{}]", json_string(left), json_string(right))
                    : json_string(left + " " + right);
  }
  return out + "]";
}

}  // namespace

std::string Tokenizer::to_tokenizer_json() const {
  const TokenizerData data = impl_->blob.data();
  for (size_t id = 0; id < data.pieces.size(); ++id) check_token(data.pieces[id], id);
  if (!data.extra_characters.empty()) {
    std::string example;
    append_utf8(data.extra_characters[0], &example);
    fail(ErrorCode::kUnsupported,
         "[text] tokenizer.json cannot hold merges of '{}', which is no token itself",
         shown(example));
  }
  // llama.cpp has no unknown token in byte-level vocabularies, so a file that names one does not
  // use it.
  const bool unknown = data.unk >= 0 && !(data.byte_level && data.unknown_breaks_words);
  std::string out = "{\n\"version\":\"1.0\",\n\"truncation\":null,\n\"padding\":null,\n";
  const auto add = [&](const char* key, const Json& value) {
    out += fmt::format("\"{}\":{},\n", key, value.dump());
  };
  add("added_tokens", added_tokens(data));
  add("normalizer", normalizer(data));
  add("pre_tokenizer", pre_tokenizer(data));
  add("post_processor", post_processor(data));
  add("decoder", decoder(data));
  out += "\"model\":{\n\"type\":\"BPE\",\n\"dropout\":null,\n";
  add("unk_token", unknown ? Json(data.pieces[data.unk]) : Json(nullptr));
  add("continuing_subword_prefix", nullptr);
  add("end_of_word_suffix", nullptr);
  add("fuse_unk", !data.byte_level || data.fuse_unknown);
  add("byte_fallback", !data.byte_level);
  add("ignore_merges", data.ignore_merges);
  out += fmt::format("\"vocab\":{},\n\"merges\":{}\n}}\n}}\n", vocabulary(data), merges(data));
  return out;
}

std::string Tokenizer::to_tokenizer_config_json() const {
  const Blob& blob = impl_->blob;
  Json out = Json::object();
  out["add_bos_token"] = adds_bos();
  out["add_eos_token"] = !blob.suffix_ids().empty();
  const auto add = [&](const char* key, TokenId id) {
    if (id < 0) return;
    check_token(blob.piece(id), id);
    out[key] = std::string(blob.piece(id));
  };
  add("bos_token", blob.bos());
  add("eos_token", blob.eos());
  add("pad_token", blob.pad());
  add("unk_token", blob.unk());
  if (!is_utf8(blob.chat_template())) {
    fail(ErrorCode::kUnsupported, "[text] JSON cannot hold the chat template: it is not UTF-8");
  }
  if (!blob.chat_template().empty()) out["chat_template"] = std::string(blob.chat_template());
  out["clean_up_tokenization_spaces"] = false;
  out["tokenizer_class"] = "PreTrainedTokenizerFast";
  return out.dump(2) + "\n";
}

}  // namespace packlight::text
