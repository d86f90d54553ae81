#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "error_code.h"
#include "tiny_vocabulary.h"

namespace packlight::text {
namespace {

using test::expect_error;
using test::gguf_of;
using test::GgufEntries;
using test::kFirstPiece;
using test::tiny_byte_level;
using test::tiny_sentencepiece;
using Ids = std::vector<TokenId>;

GgufEntries with(GgufEntries entries, const std::string& key, io::GgufValue value) {
  for (auto& entry : entries) {
    if (entry.first == key) {
      entry.second = std::move(value);
      return entries;
    }
  }
  entries.emplace_back(key, std::move(value));
  return entries;
}

TEST(ByteLevel, MergesByRankNotByPlace) {
  const Tokenizer tokenizer = Tokenizer::from_gguf(gguf_of(tiny_byte_level()));
  EXPECT_EQ(tokenizer.encode("abcde"), (Ids{7, 8}));
  EXPECT_EQ(tokenizer.encode("ab abc"), (Ids{6, 5, 7}));  // rank 3 comes too late for " a"
  EXPECT_EQ(tokenizer.encode("ab ac"), (Ids{6, 9, 2}));
}

TEST(ByteLevel, DropsBytesTheVocabularyLacksButKeepsTheirPlace) {
  const Tokenizer tokenizer = Tokenizer::from_gguf(gguf_of(tiny_byte_level()));
  EXPECT_EQ(tokenizer.encode("axb"), (Ids{0, 1}));
}

TEST(ByteLevel, LongWordsMergeAsShortOnes) {
  const Tokenizer tokenizer = Tokenizer::from_gguf(gguf_of(tiny_byte_level()));
  std::string text;
  Ids want;
  for (int i = 0; i < 500; ++i) {
    text += "abcde";
    want.insert(want.end(), {7, 8});
  }
  EXPECT_EQ(tokenizer.encode(text), want);
}

TEST(ByteLevel, FindsSpecialTokensOnlyWhenAsked) {
  const Tokenizer tokenizer = Tokenizer::from_gguf(gguf_of(tiny_byte_level()));
  EXPECT_EQ(tokenizer.encode("<s>ab</s>", {true, true}), (Ids{10, 6, 11}));
  EXPECT_EQ(tokenizer.encode("<u>ab", {true, false}), (Ids{12, 6}));
}

TEST(ByteLevel, AddsBosAndEosWhenTheFileSaysSo) {
  GgufEntries entries = with(tiny_byte_level(), "tokenizer.ggml.add_bos_token", {true});
  entries = with(entries, "tokenizer.ggml.add_eos_token", {true});
  const Tokenizer tokenizer = Tokenizer::from_gguf(gguf_of(entries));
  EXPECT_TRUE(tokenizer.adds_bos());
  EXPECT_EQ(tokenizer.encode("ab"), (Ids{10, 6, 11}));
  EXPECT_EQ(tokenizer.encode("ab", {false, false}), (Ids{6}));
  EXPECT_EQ(tokenizer.encode(""), (Ids{10, 11}));
}

TEST(ByteLevel, DecodesAndHidesControlTokens) {
  const Tokenizer tokenizer = Tokenizer::from_gguf(gguf_of(tiny_byte_level()));
  EXPECT_EQ(tokenizer.decode(Ids{10, 9, 1, 12, 11}), " ab<u>");
  EXPECT_EQ(tokenizer.decode(Ids{10, 9, 1, 12, 11}, true), "<s> ab<u></s>");
  EXPECT_EQ(tokenizer.end_tokens(), (Ids{11}));
  expect_error(ErrorCode::kInvalidArgument, {"13", "outside"}, [&] { tokenizer.decode(Ids{13}); });
  expect_error(ErrorCode::kInvalidArgument, {"-1", "outside"}, [&] { tokenizer.piece(-1); });
}

TEST(SentencePiece, JoinsTheHighestScoreFirstAndSpellsTheRestInBytes) {
  const Tokenizer tokenizer =
      Tokenizer::from_gguf(gguf_of(tiny_sentencepiece({{"\u2581", -1},
                                                       {"a", -1},
                                                       {"b", -1},
                                                       {"ab", -3},
                                                       {"ba", -2},
                                                       {"\u2581a", -9},
                                                       {"\u2581\u2581", -4}})));
  constexpr TokenId s = kFirstPiece, a = s + 1, b = s + 2, ab = s + 3, ba = s + 4, sa = s + 5,
                    ss = s + 6;
  EXPECT_EQ(tokenizer.encode("aba"), (Ids{1, sa, ba}));
  EXPECT_EQ(tokenizer.encode("ab"), (Ids{1, s, ab}));
  EXPECT_EQ(tokenizer.encode(" b", {false, false}), (Ids{ss, b}));
  EXPECT_EQ(tokenizer.encode("x\u00e9", {false, false}), (Ids{s, 3 + 'x', 3 + 0xC3, 3 + 0xA9}));
  EXPECT_EQ(tokenizer.encode("</s>a", {false, true}), (Ids{2, sa}));
  EXPECT_EQ(tokenizer.encode("", {true, false}), (Ids{1}));
  EXPECT_EQ(tokenizer.decode(Ids{1, sa, b, s, a}), "ab a");
  EXPECT_EQ(tokenizer.encode("\xFF", {false, false}),
            (Ids{s, 3 + 0xFF}));  // broken bytes stay themselves
}

TEST(SentencePiece, MergesCharactersThatAreNoTokens) {
  const Tokenizer tokenizer = Tokenizer::from_gguf(
      gguf_of(tiny_sentencepiece({{"\u2581", -1}, {"\u00e9\u00e8", -2}, {"z\u00e9", -3}})));
  EXPECT_EQ(tokenizer.encode("\u00e9\u00e8", {false, false}), (Ids{kFirstPiece, kFirstPiece + 1}));
  EXPECT_EQ(tokenizer.encode("\u00e9", {false, false}), (Ids{kFirstPiece, 3 + 0xC3, 3 + 0xA9}));
  // tokenizer.json has no such merges.
  expect_error(ErrorCode::kUnsupported, {"no token itself"},
               [&] { tokenizer.to_tokenizer_json(); });
}

TEST(Stream, HoldsBackPartsOfCharacters) {
  const Tokenizer tokenizer =
      Tokenizer::from_gguf(gguf_of(tiny_sentencepiece({{"\u2581", -1}, {"a", -1}})));
  StreamDecoder stream(tokenizer);
  EXPECT_EQ(stream.push(kFirstPiece), "");  // the leading space
  EXPECT_EQ(stream.push(3 + 0xF0), "");
  EXPECT_EQ(stream.push(3 + 0x9F), "");
  EXPECT_EQ(stream.push(3 + 0x98), "");
  EXPECT_EQ(stream.push(3 + 0x80), "\U0001f600");
  EXPECT_EQ(stream.push(3 + 0xC3), "");
  EXPECT_EQ(stream.push(kFirstPiece + 1),
            "\uFFFDa");  // what cannot become a character is given up at once
  EXPECT_EQ(stream.push(3 + 0xE2), "");
  EXPECT_EQ(stream.push(3 + 0x82), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
  EXPECT_EQ(stream.finish(), "");
}

TEST(Stream, KeepsTheSpaceWhereATextGoesOn) {
  const Tokenizer tokenizer =
      Tokenizer::from_gguf(gguf_of(tiny_sentencepiece({{"\u2581time", -1}})));
  StreamDecoder whole(tokenizer), rest(tokenizer, /*continues=*/true);
  EXPECT_EQ(whole.push(kFirstPiece), "time");
  EXPECT_EQ(whole.push(kFirstPiece), " time");
  EXPECT_EQ(rest.push(kFirstPiece), " time");
}

// Such a token would cut text inside a character, and PCRE2 reads beyond the end of what is left.
TEST(AddedTokens, MustBeUtf8) {
  std::vector<std::string> tokens = {"a", "b", "\x82\xac"};
  const auto set = [&](int32_t type) {
    GgufEntries entries = with(tiny_byte_level(), "tokenizer.ggml.tokens", {tokens});
    entries = with(entries, "tokenizer.ggml.token_type", {std::vector<int32_t>{1, 1, type}});
    entries = with(entries, "tokenizer.ggml.bos_token_id", {uint32_t{0}});
    entries = with(entries, "tokenizer.ggml.eos_token_id", {uint32_t{2}});
    return with(entries, "tokenizer.ggml.merges", {std::vector<std::string>{}});
  };
  for (const int32_t type : {2, 3, 4}) {
    expect_error(ErrorCode::kCorrupt, {"tiny.gguf", "added token 2", "not UTF-8"},
                 [&] { Tokenizer::from_gguf(gguf_of(set(type))); });
  }
  std::vector<std::byte> blob = Tokenizer::from_gguf(gguf_of(tiny_byte_level())).to_blob();
  const std::string piece = "</s><u>";
  const auto at = std::search(blob.begin(), blob.end(), piece.begin(), piece.end(),
                              [](std::byte a, char b) { return a == static_cast<std::byte>(b); });
  ASSERT_NE(at, blob.end());
  at[5] = std::byte{0x82};
  expect_error(ErrorCode::kCorrupt, {"x.plk", "added token 12", "not UTF-8"},
               [&] { Tokenizer::from_blob(blob, nullptr, "x.plk"); });
  // An ordinary token that is not UTF-8 is never found; only JSON cannot hold it.
  const Tokenizer tokenizer = Tokenizer::from_gguf(gguf_of(set(1)));
  EXPECT_EQ(tokenizer.encode("ab\u20ac", {false, false}), (Ids{0, 1}));
  expect_error(ErrorCode::kUnsupported, {"token 2 '\uFFFD\uFFFD'", "not UTF-8"},
               [&] { tokenizer.to_tokenizer_json(); });
  expect_error(ErrorCode::kUnsupported, {"token 2", "not UTF-8"},
               [&] { tokenizer.to_tokenizer_config_json(); });
  GgufEntries entries = with(tiny_byte_level(), "tokenizer.chat_template", {std::string("\xff")});
  const Tokenizer odd = Tokenizer::from_gguf(gguf_of(entries));
  expect_error(ErrorCode::kUnsupported, {"chat template", "not UTF-8"},
               [&] { odd.to_tokenizer_config_json(); });
}

TEST(FromGguf, RefusesWhatItDoesNotKnow) {
  const auto load = [](GgufEntries entries) {
    return [entries] { Tokenizer::from_gguf(gguf_of(entries)); };
  };
  const auto strings = [](std::vector<std::string> list) { return io::GgufValue{std::move(list)}; };
  expect_error(ErrorCode::kUnsupported, {"tiny.gguf", "t5", "gpt2"},
               load(with(tiny_byte_level(), "tokenizer.ggml.model", {std::string("t5")})));
  expect_error(ErrorCode::kUnsupported, {"tiny.gguf", "tekken", "smollm"},
               load(with(tiny_byte_level(), "tokenizer.ggml.pre", {std::string("tekken")})));
  expect_error(ErrorCode::kUnsupported, {"x\\ny"},
               load(with(tiny_byte_level(), "tokenizer.ggml.pre", {std::string("x\ny")})));
  expect_error(ErrorCode::kCorrupt, {"tiny.gguf", "merge 1", "x"},
               load(with(tiny_byte_level(), "tokenizer.ggml.merges", strings({"a b", "a x"}))));
  expect_error(ErrorCode::kCorrupt, {"tiny.gguf", "merge 0", "ae"},
               load(with(tiny_byte_level(), "tokenizer.ggml.merges", strings({"a e"}))));
  expect_error(ErrorCode::kCorrupt, {"tiny.gguf", "two pieces"},
               load(with(tiny_byte_level(), "tokenizer.ggml.merges", strings({"ab"}))));
  expect_error(
      ErrorCode::kCorrupt, {"tiny.gguf", "token types"},
      load(with(tiny_byte_level(), "tokenizer.ggml.token_type", {std::vector<int32_t>{1}})));
  expect_error(ErrorCode::kCorrupt, {"tiny.gguf", "tokens 0 and 1", "unique"},
               load(with(with(tiny_byte_level(), "tokenizer.ggml.tokens",
                              strings(std::vector<std::string>(13, "a"))),
                         "tokenizer.ggml.merges", strings({}))));
  expect_error(ErrorCode::kCorrupt, {"tiny.gguf", "0 tokens"},
               load(with(with(tiny_byte_level(), "tokenizer.ggml.tokens", strings({})),
                         "tokenizer.ggml.merges", strings({}))));
  expect_error(ErrorCode::kCorrupt, {"tiny.gguf", "BOS"},
               load(with(with(tiny_byte_level(), "tokenizer.ggml.add_bos_token", {true}),
                         "tokenizer.ggml.bos_token_id", {uint32_t{4000000000u}})));
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    expect_error(ErrorCode::kCorrupt, {"tiny.gguf", "score", "finite"},
                 load(tiny_sentencepiece({{"a", bad}})));
  }
}

TEST(ToGguf, PadsToTheEmbeddingsRows) {
  const Tokenizer tokenizer = Tokenizer::from_gguf(gguf_of(tiny_byte_level()));
  const Tokenizer padded = Tokenizer::from_gguf(gguf_of(tokenizer.to_gguf(16)));
  EXPECT_EQ(padded.vocab_size(), 16);
  EXPECT_EQ(padded.kind(15), TokenKind::kUnused);
  EXPECT_EQ(padded.encode("abcde"), (Ids{7, 8}));
  expect_error(ErrorCode::kInvalidArgument, {"13", "12"}, [&] { tokenizer.to_gguf(12); });
}

// Every word of the blob set to extreme values, and every length cut off: a tokenizer or Corrupt,
// nothing else. Run under the sanitizers this shows that nothing in a blob leads outside.
TEST(Blob, SurvivesHostileBytes) {
  const Tokenizer original = Tokenizer::from_gguf(gguf_of(tiny_byte_level()));
  const std::vector<std::byte> blob = original.to_blob();
  const auto use = [](const std::vector<std::byte>& bytes) {
    try {
      const Tokenizer tokenizer = Tokenizer::from_blob(bytes, nullptr, "x.plk");
      const Ids ids = tokenizer.encode("abcde <s> abc<u>\xC3", {true, true});
      tokenizer.decode(ids, true);
      tokenizer.find("ab");
      tokenizer.to_gguf();
    } catch (const Error& error) {
      EXPECT_NE(error.code(), ErrorCode::kInternal) << error.what();
    }
  };
  for (size_t at = 0; at + 4 <= blob.size(); at += 4) {
    for (const uint32_t value : {0u, 1u, 13u, 0x7FFFFFFFu, 0x80000000u, 0xFFFFFFFEu, 0xFFFFFFFFu}) {
      std::vector<std::byte> bytes = blob;
      std::memcpy(bytes.data() + at, &value, sizeof value);
      use(bytes);
    }
  }
  for (size_t size = 0; size < blob.size(); size += 3) {
    use(std::vector<std::byte>(blob.begin(), blob.begin() + size));
  }
  expect_error(ErrorCode::kCorrupt, {"x.plk", "too short"},
               [] { Tokenizer::from_blob({}, nullptr, "x.plk"); });
  std::vector<std::byte> bytes = blob;
  bytes[0] = std::byte{0};
  expect_error(ErrorCode::kCorrupt, {"x.plk", "wrong magic"},
               [&] { Tokenizer::from_blob(bytes, nullptr, "x.plk"); });
}

TEST(Blob, NeedsNoAlignment) {
  const std::vector<std::byte> blob = Tokenizer::from_gguf(gguf_of(tiny_byte_level())).to_blob();
  std::vector<std::byte> shifted(blob.size() + 1);
  std::memcpy(shifted.data() + 1, blob.data(), blob.size());
  const Tokenizer tokenizer =
      Tokenizer::from_blob(std::span<const std::byte>(shifted).subspan(1), nullptr, "x.plk");
  EXPECT_EQ(tokenizer.encode("abcde"), (Ids{7, 8}));
}

}  // namespace
}  // namespace packlight::text
