#include "calib/calibration_tokens.h"

#include <gtest/gtest.h>

#include <fstream>

#include "error_code.h"
#include "tiny_language_model.h"

namespace packlight::calib {
namespace {

std::filesystem::path text_file(const test::TestFolder& folder, const std::string& text) {
  std::ofstream(folder / "text.txt", std::ios::binary) << text;
  return folder / "text.txt";
}

// The letters a..z are tokens 3 to 28; repeated so that each place in the text is known by its letter.
std::string letters(size_t n) {
  std::string text;
  for (size_t i = 0; i < n; ++i) text += static_cast<char>('a' + i % 17);  // no "th"
  return text;
}

TEST(TokensFromText, ShortTextIsUsedWhole) {
  const test::TestFolder folder;
  const TextTokens t = tokens_from_text(text_file(folder, "abc"), test::tiny_tokenizer(), 100, 8);
  EXPECT_EQ(t.tokens.ids, (std::vector<text::TokenId>{3, 4, 5}));
  EXPECT_EQ(t.tokens_in_text, 3);
  EXPECT_EQ(t.hash.size(), 16u);
}

TEST(TokensFromText, WindowsLieEvenlyFromFirstToLastToken) {
  const test::TestFolder folder;
  const TextTokens t = tokens_from_text(text_file(folder, letters(100)), test::tiny_tokenizer(), 12, 4);
  EXPECT_EQ(t.tokens_in_text, 100);
  // Three windows of 4 start at 0, 48 and 96.
  const auto id = [](int place) { return 3 + place % 17; };
  EXPECT_EQ(t.tokens.ids, (std::vector<text::TokenId>{id(0), id(1), id(2), id(3), id(48), id(49), id(50), id(51), id(96),
                                                      id(97), id(98), id(99)}));
}

TEST(TokensFromText, LastWindowMayBeShorter) {
  const test::TestFolder folder;
  EXPECT_EQ(tokens_from_text(text_file(folder, letters(100)), test::tiny_tokenizer(), 10, 4).tokens.ids.size(), 10u);
}

TEST(TokensFromText, RefusesNoTextAndNoTokens) {
  const test::TestFolder folder;
  test::expect_error(ErrorCode::kInvalidArgument, {"text.txt", "no tokens"},
                     [&] { tokens_from_text(text_file(folder, ""), test::tiny_tokenizer(), 10, 4); });
  test::expect_error(ErrorCode::kNotFound, {"absent"},
                     [&] { tokens_from_text(folder / "absent", test::tiny_tokenizer(), 10, 4); });
  test::expect_error(ErrorCode::kInvalidArgument, {"0 tokens"},
                     [&] { tokens_from_text(text_file(folder, "abc"), test::tiny_tokenizer(), 0, 4); });
}

TEST(TokensBlob, SurvivesAndStaysSmall) {
  const CalibrationTokens tokens{{0, 127, 128, 16383, 16384, 49151}, 512};
  const auto blob = tokens_to_blob(tokens);
  EXPECT_EQ(blob.size(), 5u + 1 + 1 + 2 + 2 + 3 + 3);
  const CalibrationTokens back = tokens_from_blob(blob, 49152, "x.plk");
  EXPECT_EQ(back.ids, tokens.ids);
  EXPECT_EQ(back.window, 512);
}

TEST(TokensBlob, HostileBytesAreCorrupt) {
  auto blob = tokens_to_blob({{5, 300}, 512});
  const auto refused = [&](std::vector<std::byte> bytes, int64_t vocab = 1000) {
    test::expect_error(ErrorCode::kCorrupt, {"x.plk"}, [&] { tokens_from_blob(bytes, vocab, "x.plk"); });
  };
  refused({});
  refused({blob.begin(), blob.begin() + 5});  // no token
  refused({blob.begin(), blob.end() - 1});    // cut inside an id
  refused(blob, 300);                         // outside the vocabulary
  auto other = blob;
  other[0] = std::byte{9};
  refused(other);
  other = blob;
  other[1] = other[2] = std::byte{0};  // window 0
  refused(other);
  std::vector<std::byte> endless(blob.begin(), blob.begin() + 5);
  endless.insert(endless.end(), 20, std::byte{0x80});
  refused(endless);
}

}  // namespace
}  // namespace packlight::calib
