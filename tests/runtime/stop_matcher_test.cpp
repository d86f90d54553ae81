#include "runtime/stop_matcher.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "packlight/error.h"

namespace packlight::runtime {
namespace {

struct Outcome {
  std::string text;
  bool stopped;
  bool operator==(const Outcome&) const = default;
};

Outcome feed(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  StopMatcher matcher(stops);
  std::string text;
  for (const std::string& piece : pieces) text += matcher.push(piece);
  text += matcher.finish();
  return {text, matcher.stopped()};
}

std::vector<std::string> characters(const std::string& text) {
  std::vector<std::string> pieces;
  for (const char c : text) pieces.emplace_back(1, c);
  return pieces;
}

TEST(StopMatcher, WithoutStopsTextPassesAtOnce) {
  StopMatcher matcher({});
  EXPECT_EQ(matcher.push("abc"), "abc");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, HoldsBackOnlyWhatMayBecomeAStop) {
  StopMatcher matcher({"END"});
  EXPECT_EQ(matcher.push("the E"), "the ");
  EXPECT_EQ(matcher.push("N"), "");
  EXPECT_EQ(matcher.push("X"), "ENX");
  EXPECT_EQ(matcher.push("xEE"), "xE");
  EXPECT_EQ(matcher.push("ND more"), "");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.push("more"), "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, GivesBackWhatItHeldWhenTheTextEnds) {
  EXPECT_EQ(feed({"END"}, {"the EN"}), (Outcome{"the EN", false}));
}

TEST(StopMatcher, TheResultDoesNotDependOnThePieces) {
  const std::vector<std::vector<std::string>> stop_lists = {
      {"aab"}, {"ab", "xyabc"},     {"yabc", "ab"}, {"abab"},
      {"c"},   {"\n\n", "\nUser:"}, {"aa", "aaa"}};
  for (const std::string text :
       {"xyabcd", "aaab", "abaabab", "one\nUser: x", "one\n\ntwo", "aaaa", ""}) {
    for (const auto& stops : stop_lists) {
      const Outcome whole = feed(stops, {text});
      EXPECT_EQ(feed(stops, characters(text)), whole) << text;
      for (size_t cut = 0; cut <= text.size(); ++cut) {
        EXPECT_EQ(feed(stops, {text.substr(0, cut), text.substr(cut)}), whole)
            << text << " cut at " << cut;
      }
    }
  }
}

TEST(StopMatcher, TheMatchCompleteFirstWins) {
  EXPECT_EQ(feed({"yabc", "ab"}, {"xyabcd"}), (Outcome{"xy", true}));
  EXPECT_EQ(feed({"b", "aab"}, {"xaab"}), (Outcome{"x", true}));  // the same end: the longer
}

TEST(StopMatcher, AnEmptyStopIsRefused) { EXPECT_THROW(StopMatcher({"a", ""}), Error); }

}  // namespace
}  // namespace packlight::runtime
