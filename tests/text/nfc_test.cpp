#include "text/nfc.h"

#include <gtest/gtest.h>

#include "run_oracle.h"
#include "test_texts.h"
#include "text/utf8.h"

namespace packlight::text {
namespace {

TEST(Nfc, ComposesOrdersAndBlocks) {
  EXPECT_EQ(compose_nfc("plain \u00e9"), "plain \u00e9");
  EXPECT_EQ(compose_nfc("e\u0301"), "\u00e9");
  EXPECT_EQ(compose_nfc("s\u0307\u0323"), "\u1e69");        // ordered by class, then composed twice
  EXPECT_EQ(compose_nfc("a\u0315\u0300"), "\u00e0\u0315");  // a mark of higher class does not block
  EXPECT_EQ(compose_nfc("a\u0305\u0301"), "a\u0305\u0301");  // one of the same class does
  EXPECT_EQ(compose_nfc("\u0958"), "\u0915\u093c");          // excluded from composition
  EXPECT_EQ(compose_nfc("\u212b \u2126"), "\u00c5 \u03a9");
  EXPECT_EQ(compose_nfc("\u1112\u1161\u11ab"), "\ud55c");
  EXPECT_EQ(compose_nfc("\uac00\u11a8"), "\uac01");
  EXPECT_EQ(compose_nfc("\uac00\u11a7"), "\uac00\u11a7");  // U+11A7 is no final consonant
  EXPECT_EQ(compose_nfc("\u0301e"), "\u0301e");
  EXPECT_EQ(compose_nfc(""), "");
}

TEST(Nfc, LeavesItsOwnResultsAlone) {
  const std::string once = compose_nfc(test::awkward_text());
  EXPECT_EQ(compose_nfc(once), once);
}

TEST(Utf8, ReplacesMaximalIllFormedParts) {
  EXPECT_EQ(replace_ill_formed("a\xE2\x82z"), "a\uFFFDz");
  EXPECT_EQ(replace_ill_formed("\xF0\x80\x80"), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(replace_ill_formed("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(replace_ill_formed("\xF4\x90\x80\x80\xC3"), "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD");
}

TEST(Utf8, SanitisesByteByByteAsLlamaCppDoes) {
  std::string out;
  EXPECT_FALSE(sanitise_utf8("good \u00e9", &out));
  EXPECT_TRUE(sanitise_utf8("a\xE2\x82z", &out));
  EXPECT_EQ(out, "a\uFFFD\uFFFDz");
  EXPECT_TRUE(sanitise_utf8("\xC1\x81", &out));  // overlong A
  EXPECT_EQ(out, "A");
}

}  // namespace
}  // namespace packlight::text
