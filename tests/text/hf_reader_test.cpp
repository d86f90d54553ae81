#include "text/hf_reader.h"

#include <gtest/gtest.h>

#include "base/json.h"
#include "error_code.h"
#include "text/tokenizer_impl.h"

namespace packlight::text {
namespace {

using test::expect_error;

// The smallest byte-level tokenizer.json: a, b and ab.
Json tiny() {
  return base::parse_json(R"({"added_tokens": [{"id": 3, "content": "<s>", "special": true}],
    "normalizer": null, "post_processor": null, "decoder": {"type": "ByteLevel"},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})",
                          "tiny");
}

Tokenizer load(const Json& json) {
  return open_tokenizer(read_tokenizer_json(json.dump(), "tokenizer.json"));
}

// `change` applied to the tiny tokenizer must be refused.
void expect_refused(ErrorCode code, std::initializer_list<std::string> parts,
                    const std::function<void(Json*)>& change) {
  Json json = tiny();
  change(&json);
  expect_error(code, parts, [&] { load(json); });
}

TEST(TokenizerJson, LoadsTheSmallestOne) {
  EXPECT_EQ(load(tiny()).encode("aba<s>", {true, true}), (std::vector<TokenId>{2, 0, 3}));
}

TEST(TokenizerJson, RefusesWhatWouldGiveOtherIds) {
  const auto part = [](const char* member, const char* text) {
    return [member, text](Json* json) { (*json)[member] = base::parse_json(text, "test"); };
  };
  constexpr ErrorCode kUnsupported = ErrorCode::kUnsupported;
  expect_refused(kUnsupported, {"tokenizer.json", "Lowercase"},
                 part("normalizer", R"({"type": "Lowercase"})"));
  expect_refused(kUnsupported, {"NFKC"},
                 part("normalizer", R"({"type": "Sequence", "normalizers": [{"type": "NFKC"}]})"));
  expect_refused(kUnsupported, {"Whitespace"}, part("pre_tokenizer", R"({"type": "Whitespace"})"));
  expect_refused(kUnsupported, {"Split", "Removed"},
                 part("pre_tokenizer",
                      R"({"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Removed"})"));
  expect_refused(kUnsupported, {"neither byte-level"}, part("pre_tokenizer", "null"));
  expect_refused(kUnsupported, {"after another pre-tokenizer"},
                 part("pre_tokenizer", R"({"type": "Sequence", "pretokenizers": [
                   {"type": "Digits", "individual_digits": true}, {"type": "ByteLevel", "add_prefix_space": true}]})"));
  expect_refused(kUnsupported, {"BertProcessing"},
                 part("post_processor", R"({"type": "BertProcessing"})"));
  expect_refused(kUnsupported, {"WordPiece"}, part("decoder", R"({"type": "WordPiece"})"));
  expect_refused(kUnsupported, {"Unigram"},
                 [](Json* json) { (*json)["model"]["type"] = "Unigram"; });
  expect_refused(kUnsupported, {"dropout"}, [](Json* json) { (*json)["model"]["dropout"] = 0.1; });
  expect_refused(kUnsupported, {"end_of_word_suffix"},
                 [](Json* json) { (*json)["model"]["end_of_word_suffix"] = "</w>"; });
}

TEST(TokenizerJson, RefusesPatternsThatTwoEnginesReadDifferently) {
  for (const char* pattern :
       {"(?<=a)b",    "a{2}+", "(a)",  "[[a]b]", "a&&b[a&&b]", "\\w+", "\\h",
        "\\p{Greek}", "^a",    "a.b",  "\\X",    "(?x:a)",     "[]a]", "(?>a)",
        "a{,3}",      "[a",    "(?:a", "a*",     "\\",         "\\p{L"}) {
    SCOPED_TRACE(pattern);
    expect_refused(ErrorCode::kUnsupported, {"pattern"}, [&](Json* json) {
      (*json)["pre_tokenizer"] = {
          {"type", "Sequence"},
          {"pretokenizers",
           {{{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}},
            {{"type", "ByteLevel"}, {"add_prefix_space", false}}}}};
    });
  }
}

TEST(TokenizerJson, RefusesContradictions) {
  constexpr ErrorCode kCorrupt = ErrorCode::kCorrupt;
  const auto model = [](const char* member, const char* text) {
    return
        [member, text](Json* json) { (*json)["model"][member] = base::parse_json(text, "test"); };
  };
  expect_refused(kCorrupt, {"same id"}, model("vocab", R"({"a": 0, "b": 0, "ab": 2})"));
  expect_refused(kCorrupt, {"merge 0", "ab"}, model("vocab", R"({"a": 0, "b": 1})"));
  expect_refused(kCorrupt, {"id", "99999999"},
                 model("vocab", R"({"a": 0, "b": 1, "ab": 99999999})"));
  expect_refused(kCorrupt, {"vocab"}, model("vocab", R"({"a": -1})"));
  expect_refused(kCorrupt, {"vocab"}, model("vocab", R"(["a"])"));
  expect_refused(kCorrupt, {"vocabulary is empty"}, model("vocab", "{}"));
  expect_refused(kCorrupt, {"merges"}, model("merges", R"(["a b c"])"));
  expect_refused(kCorrupt, {"merges"}, model("merges", R"([["a", "b", "c"]])"));
  expect_refused(kCorrupt, {"merges"}, model("merges", R"([1])"));
  expect_refused(kCorrupt, {"unk_token", "x"}, model("unk_token", R"("x")"));
  expect_refused(kCorrupt, {"model"}, [](Json* json) { json->erase("model"); });
  expect_refused(kCorrupt, {"two ids"},
                 [](Json* json) { (*json)["added_tokens"][0]["content"] = "a"; });
  expect_refused(kCorrupt, {"same id"}, [](Json* json) { (*json)["added_tokens"][0]["id"] = 2; });
  expect_refused(kCorrupt, {"empty"},
                 [](Json* json) { (*json)["added_tokens"][0]["content"] = ""; });
  expect_refused(kCorrupt, {"twice"},
                 [](Json* json) { (*json)["added_tokens"].push_back((*json)["added_tokens"][0]); });
  expect_refused(kCorrupt, {"unknown token"}, [](Json* json) {
    (*json)["post_processor"] = base::parse_json(R"({"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "x"}}, {"Sequence": {"id": "A"}}], "special_tokens": {"x": {"ids": [77]}}})",
                                                 "t");
  });
}

TEST(TokenizerJson, SurvivesBrokenText) {
  const std::string whole = tiny().dump();
  for (size_t size = 0; size < whole.size(); ++size) {
    expect_error(ErrorCode::kCorrupt, {"tokenizer.json"}, [&] {
      read_tokenizer_json(std::string_view(whole).substr(0, size), "tokenizer.json");
    });
  }
  for (const std::string& text :
       {std::string(100000, '['), std::string("[]"), std::string("\xFF{}")}) {
    expect_error(ErrorCode::kCorrupt, {"tokenizer.json"},
                 [&] { read_tokenizer_json(text, "tokenizer.json"); });
  }
}

}  // namespace
}  // namespace packlight::text
