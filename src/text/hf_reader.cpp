#include "text/hf_reader.h"

#include <algorithm>
#include <string>
#include <unordered_map>

#include "base/fail.h"
#include "base/json.h"
#include "text/hf_json.h"
#include "text/shown.h"
#include "text/tokenizer_impl.h"

// Reads the tokenizer.json of Hugging Face's `tokenizers`. What each member means was taken from
// that library's source; whatever is not handled here is refused by name, because ids would differ
// silently.

namespace packlight::text {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";
constexpr uint64_t kMaxTokens = 1u << 24;

class HfReader {
 public:
  HfReader(const HfObject& document, std::string origin) : document_(document) {
    data_.origin = std::move(origin);
  }

  TokenizerData run() {
    data_.unknown_breaks_words = false;
    data_.longest_added_first = false;
    read_model(document_.object("model"));
    read_added();
    if (const auto normalizer = document_.optional_object("normalizer"))
      read_normalizer(*normalizer);
    data_.byte_level = false;
    if (const auto pre = document_.optional_object("pre_tokenizer")) read_pre_tokenizer(*pre);
    check_kind();
    if (const auto post = document_.optional_object("post_processor")) read_post_processor(*post);
    if (const auto decoder = document_.optional_object("decoder")) check_decoder(*decoder);
    return std::move(data_);
  }

 private:
  [[noreturn]] void corrupt(std::string_view what) const {
    fail(ErrorCode::kCorrupt, "[text] '{}': {}", data_.origin, shown(what, 400));
  }
  [[noreturn]] void unsupported(std::string_view what) const {
    fail(ErrorCode::kUnsupported, "[text] '{}': {}", data_.origin, shown(what, 400));
  }

  void place(std::string_view piece, uint64_t id, TokenKind kind) {
    if (id >= kMaxTokens)
      corrupt(fmt::format("token '{}' has the id {}, at most {}", piece, id, kMaxTokens - 1));
    if (piece.empty()) corrupt(fmt::format("token {} is empty", id));
    const auto known = index_.find(std::string(piece));
    if (known != index_.end()) {
      if (known->second != id)
        corrupt(fmt::format("token '{}' has two ids, {} and {}", piece, known->second, id));
      data_.kinds[id] = kind;
      return;
    }
    if (id >= data_.pieces.size()) {
      data_.pieces.resize(id + 1);
      data_.kinds.resize(id + 1, TokenKind::kUnused);
    }
    if (!data_.pieces[id].empty()) {
      corrupt(fmt::format("tokens '{}' and '{}' have the same id {}", data_.pieces[id], piece, id));
    }
    data_.pieces[id] = piece;
    data_.kinds[id] = kind;
    index_.emplace(piece, static_cast<uint32_t>(id));
  }

  void read_model(const HfObject& model) {
    const std::string_view type = model.text("type", "BPE");
    if (type != "BPE") unsupported(fmt::format("the model is {}; BPE is the known one", type));
    if (model.number("dropout", 0) != 0) unsupported("BPE dropout makes ids random");
    for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!model.text(affix, "").empty())
        unsupported(fmt::format("a model with {} '{}'", affix, model.text(affix, "")));
    }
    byte_fallback_ = model.boolean("byte_fallback", false);
    data_.fuse_unknown = model.boolean("fuse_unk", false);
    data_.ignore_merges = model.boolean("ignore_merges", false);
    model.each_member("vocab", [&](std::string_view piece, uint64_t id) {
      const bool is_byte =
          byte_fallback_ && piece.size() == 6 && piece.starts_with("<0x") && piece.back() == '>';
      place(piece, id, is_byte ? TokenKind::kByte : TokenKind::kNormal);
    });
    if (index_.empty()) corrupt("the vocabulary is empty");
    read_merges(model);
    const std::string_view unknown = model.text("unk_token", "");
    if (!unknown.empty()) {
      data_.unk = static_cast<TokenId>(token(unknown, "unk_token"));
      data_.kinds[data_.unk] = TokenKind::kUnknown;
    }
  }

  uint32_t token(std::string_view piece, std::string_view user) const {
    const auto it = index_.find(std::string(piece));
    if (it == index_.end())
      corrupt(fmt::format("{} needs the token '{}', which is not in the vocabulary", user, piece));
    return it->second;
  }

  void read_merges(const HfObject& model) {
    uint32_t rank = 0;
    model.each_merge("merges", [&](std::string_view left, std::string_view right) {
      const std::string user = fmt::format("merge {}", rank);
      data_.merges.push_back({token(left, user), token(right, user),
                              token(std::string(left) + std::string(right), user), rank});
      ++rank;
    });
    // Of two merges of one pair tokenizers keeps the later, the blob the first.
    std::reverse(data_.merges.begin(), data_.merges.end());
  }

  void read_added() {
    for (const HfObject& entry : document_.objects("added_tokens")) {
      AddedToken added;
      added.id = static_cast<uint32_t>(std::min<uint64_t>(entry.unsigned_number("id"), UINT32_MAX));
      added.special = entry.boolean("special", false);
      added.lstrip = entry.boolean("lstrip", false);
      added.rstrip = entry.boolean("rstrip", false);
      added.single_word = entry.boolean("single_word", false);
      added.normalized = entry.boolean("normalized", !added.special);
      place(entry.text("content"), added.id,
            added.special ? TokenKind::kControl : TokenKind::kUserDefined);
      if (added.special && static_cast<TokenId>(added.id) == data_.unk)
        data_.kinds[added.id] = TokenKind::kUnknown;
      const auto same = [&](const AddedToken& other) { return other.id == added.id; };
      if (std::any_of(data_.added.begin(), data_.added.end(), same)) {
        corrupt(fmt::format("added token {} appears twice", added.id));
      }
      data_.added.push_back(added);
    }
  }

  void read_normalizer(const HfObject& normalizer) {
    const std::string_view type = normalizer.text("type");
    if (type == "Sequence") {
      for (const HfObject& part : normalizer.objects("normalizers")) read_normalizer(part);
    } else if (type == "NFC" && data_.space_prefix == SpacePrefix::kNone && !data_.escape_spaces) {
      data_.compose = true;
    } else if (type == "Prepend" && normalizer.text("prepend") == kSpaceMark &&
               data_.space_prefix == SpacePrefix::kNone) {
      data_.space_prefix = SpacePrefix::kAlways;
    } else if (type == "Replace" && normalizer.object("pattern").text("String", "") == " " &&
               normalizer.text("content") == kSpaceMark) {
      data_.escape_spaces = data_.normalizer_escapes = true;
    } else {
      unsupported(
          fmt::format("the normalizer {} (with these members, in this place) is not known; NFC, "
                      "Prepend and Replace of spaces are",
                      type));
    }
  }

  void read_pre_tokenizer(const HfObject& pre) {
    const std::string_view type = pre.text("type");
    if (data_.byte_level) unsupported(fmt::format("the pre-tokenizer {} after ByteLevel", type));
    if (type == "Sequence") {
      for (const HfObject& part : pre.objects("pretokenizers")) read_pre_tokenizer(part);
    } else if (type == "ByteLevel") {
      read_byte_level(pre);
    } else if (type == "Digits") {
      const bool single = pre.boolean("individual_digits", false);
      data_.splits.push_back({single ? SplitRule::kDigits : SplitRule::kDigitRuns, ""});
    } else if (type == "Split") {
      read_split(pre);
    } else if (type == "Metaspace" && data_.splits.empty() && !data_.escape_spaces) {
      read_metaspace(pre);
    } else {
      unsupported(
          fmt::format("the pre-tokenizer {} (in this place) is not known; ByteLevel, Digits, Split "
                      "and Metaspace are",
                      type));
    }
  }

  void read_byte_level(const HfObject& pre) {
    if (data_.escape_spaces || data_.space_prefix != SpacePrefix::kNone) {
      unsupported("ByteLevel after a normalizer that changes spaces");
    }
    if (pre.boolean("add_prefix_space", true)) {
      if (!data_.splits.empty())
        unsupported("ByteLevel with add_prefix_space after another pre-tokenizer");
      data_.space_prefix = SpacePrefix::kUnlessSpace;
    }
    if (pre.boolean("use_regex", true)) data_.splits.push_back({SplitRule::kGpt2, ""});
    data_.byte_level = true;
  }

  void read_split(const HfObject& pre) {
    const std::string_view pattern = pre.object("pattern").text("Regex", "");
    const std::string_view behavior = pre.text("behavior");
    if (pattern.empty() || behavior != "Isolated" || pre.boolean("invert", false)) {
      unsupported(fmt::format(
          "the pre-tokenizer Split with behavior {}, invert {}{}; Isolated by a Regex is known",
          behavior, pre.boolean("invert", false), pattern.empty() ? ", no Regex" : ""));
    }
    data_.splits.push_back({SplitRule::kRegex, std::string(pattern)});
  }

  void read_metaspace(const HfObject& pre) {
    if (pre.text("replacement") != kSpaceMark)
      unsupported("Metaspace with another replacement than U+2581");
    const bool prefix = pre.boolean("add_prefix_space", true);  // the name before prepend_scheme
    const std::string_view scheme = pre.text("prepend_scheme", prefix ? "always" : "never");
    if (scheme == "always") {
      data_.space_prefix = SpacePrefix::kUnlessSpace;
    } else if (scheme == "first") {
      data_.space_prefix = SpacePrefix::kFirstUnlessSpace;
    } else if (scheme != "never") {
      unsupported(fmt::format("Metaspace with prepend_scheme {}", scheme));
    }
    data_.escape_spaces = true;
    if (pre.boolean("split", true)) data_.splits.push_back({SplitRule::kMetaspace, ""});
  }

  // What is left must be one of the two kinds.
  void check_kind() const {
    if (data_.byte_level && byte_fallback_) unsupported("ByteLevel with byte_fallback");
    if (!data_.byte_level && !(byte_fallback_ && data_.escape_spaces)) {
      unsupported(
          "neither byte-level (pre-tokenizer ByteLevel) nor SentencePiece BPE (byte_fallback, "
          "spaces to U+2581)");
    }
  }

  void read_post_processor(const HfObject& post) {
    const std::string_view type = post.text("type");
    if (type == "Sequence") {
      for (const HfObject& part : post.objects("processors")) read_post_processor(part);
    } else if (type == "TemplateProcessing" && data_.prefix_ids.empty() &&
               data_.suffix_ids.empty()) {
      read_template(post);
    } else if (type != "ByteLevel") {  // which moves offsets only
      unsupported(fmt::format(
          "the post-processor {} is not known; ByteLevel and one TemplateProcessing are", type));
    }
  }

  void read_template(const HfObject& post) {
    const HfObject special_tokens = post.object("special_tokens");
    bool after = false;
    for (const HfObject& item : post.objects("single")) {
      if (const auto sequence = item.optional_object("Sequence")) {
        if (after || sequence->text("id") != "A")
          unsupported("a TemplateProcessing that repeats the text");
        after = true;
        continue;
      }
      const HfObject special = special_tokens.object(item.object("SpecialToken").text("id"));
      for (const uint64_t id : special.unsigned_numbers("ids")) {
        if (id >= data_.pieces.size() || data_.pieces[id].empty())
          corrupt("TemplateProcessing adds an unknown token");
        (after ? data_.suffix_ids : data_.prefix_ids).push_back(static_cast<TokenId>(id));
      }
    }
    if (!after) unsupported("a TemplateProcessing without the text");
  }

  void check_decoder(const HfObject& decoder) const {
    const std::string_view type = decoder.text("type");
    if (type == "Sequence") {
      for (const HfObject& part : decoder.objects("decoders")) check_decoder(part);
      return;
    }
    const bool space_back = type == "Replace" &&
                            decoder.object("pattern").text("String", "") == kSpaceMark &&
                            decoder.text("content") == " ";
    const bool one_space_off = type == "Strip" && decoder.text("content") == " " &&
                               decoder.number("start", 0) == 1 && decoder.number("stop", 0) == 0;
    const bool known = data_.byte_level ? type == "ByteLevel"
                                        : type == "ByteFallback" || type == "Fuse" ||
                                              type == "Metaspace" || space_back || one_space_off;
    if (!known)
      unsupported(
          fmt::format("the decoder {} (with these members) is not known for this kind", type));
  }

  const HfObject& document_;
  TokenizerData data_;
  std::unordered_map<std::string, uint32_t> index_;
  bool byte_fallback_ = false;
};

// "bos_token" is a string or an object with "content".
TokenId configured_token(const HfObject& config, const char* key, const TokenizerData& data) {
  std::string_view piece;
  if (const auto object = config.optional_object(key, /*or_other_type=*/true)) {
    piece = object->text("content");
  } else {
    piece = config.text(key, "");
  }
  if (piece.empty()) return -1;
  const auto it = std::find(data.pieces.begin(), data.pieces.end(), piece);
  return it == data.pieces.end() ? -1 : static_cast<TokenId>(it - data.pieces.begin());
}

void read_config(const std::filesystem::path& path, TokenizerData* data) {
  const HfDocument document(base::read_text_file(path), path.string());
  const HfObject config = document.root();
  data->bos = configured_token(config, "bos_token", *data);
  data->eos = configured_token(config, "eos_token", *data);
  data->pad = configured_token(config, "pad_token", *data);
  data->chat_template = config.named_text("chat_template", "default");
}

}  // namespace

TokenizerData read_tokenizer_json(std::string_view text, const std::string& origin) {
  const HfDocument document(text, origin);
  const HfObject root = document.root();
  return HfReader(root, origin).run();
}

Tokenizer Tokenizer::from_hf(const std::filesystem::path& tokenizer_json,
                             const std::filesystem::path& tokenizer_config) {
  TokenizerData data =
      read_tokenizer_json(base::read_text_file(tokenizer_json), tokenizer_json.string());
  std::error_code ignored;
  if (!tokenizer_config.empty() && std::filesystem::exists(tokenizer_config, ignored)) {
    read_config(tokenizer_config, &data);
  }
  // Newer transformers keep the template in a file of its own, which wins.
  const std::filesystem::path jinja = tokenizer_json.parent_path() / "chat_template.jinja";
  if (std::filesystem::exists(jinja, ignored)) data.chat_template = base::read_text_file(jinja);
  if (data.bos < 0 && data.prefix_ids.size() == 1) data.bos = data.prefix_ids[0];
  return open_tokenizer(data);
}

}  // namespace packlight::text
