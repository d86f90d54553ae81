#include "text/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <string>

#include "base/fail.h"
#include "text/regex_translation.h"
#include "text/shown.h"

namespace packlight::text {
namespace {

template <auto Free>
struct Deleter {
  template <class T>
  void operator()(T* pointer) const {
    Free(pointer);
  }
};
using Code = std::unique_ptr<pcre2_code, Deleter<pcre2_code_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Deleter<pcre2_match_data_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Deleter<pcre2_match_context_free>>;
using JitStack = std::unique_ptr<pcre2_jit_stack, Deleter<pcre2_jit_stack_free>>;

// Published patterns have up to 500.
constexpr size_t kMaxPatternBytes = 8192;

// Oniguruma's syntax, as all patterns here.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

std::string_view pattern_of(const SplitStage& stage) {
  switch (stage.rule) {
    case SplitRule::kGpt2:
      return kGpt2Pattern;
    case SplitRule::kDigits:
      return R"(\p{N})";
    case SplitRule::kDigitRuns:
      return R"(\p{N}+)";
    case SplitRule::kMetaspace:
      return "\u2581[^\u2581]*|[^\u2581]+";
    case SplitRule::kRegex:
      break;
  }
  return stage.pattern;
}

Code compile(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes) {
    fail(ErrorCode::kUnsupported, "[text] pre-tokenizer pattern of {} bytes, at most {}",
         pattern.size(), kMaxPatternBytes);
  }
  const std::string translated = translate_regex(pattern);
  int error = 0;
  PCRE2_SIZE where = 0;
  Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                          PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &where,
                          nullptr));
  uint32_t matches_empty = 0;
  if (code) pcre2_pattern_info(code.get(), PCRE2_INFO_MATCHEMPTY, &matches_empty);
  if (!code || matches_empty != 0) {
    fail(ErrorCode::kUnsupported, "[text] pre-tokenizer pattern '{}': {} at offset {}",
         shown(pattern),
         code ? "it matches nothing at all, which cuts no text" : "PCRE2 does not accept it",
         where);
  }
  pcre2_jit_compile(code.get(),
                    PCRE2_JIT_COMPLETE);  // where there is no JIT, pcre2_match interprets
  return code;
}

// What one call of split() needs besides the patterns.
struct Scratch {
  MatchContext context{pcre2_match_context_create(nullptr)};
  JitStack stack{pcre2_jit_stack_create(32 * 1024, 4 * 1024 * 1024, nullptr)};
  MatchData match{pcre2_match_data_create(1, nullptr)};
  Scratch() {
    if (!context || !match)
      fail(ErrorCode::kOutOfMemory, "[text] pre-tokenizer: no memory for a match");
    if (stack) pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  }
};

void split_by(const pcre2_code* code, std::string_view text, const Scratch& scratch,
              std::vector<std::string_view>* words) {
  const PCRE2_SIZE* found = pcre2_get_ovector_pointer(scratch.match.get());
  size_t done = 0;
  while (done < text.size()) {
    const int result =
        pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), done,
                    PCRE2_NO_UTF_CHECK, scratch.match.get(), scratch.context.get());
    if (result == PCRE2_ERROR_NOMATCH) break;
    if (result < 0 || found[0] < done || found[1] <= found[0]) {
      fail(ErrorCode::kUnsupported, "[text] pre-tokenizer: PCRE2 error {} at byte {} of {}", result,
           done, text.size());
    }
    if (found[0] > done) words->push_back(text.substr(done, found[0] - done));
    words->push_back(text.substr(found[0], found[1] - found[0]));
    done = found[1];
  }
  if (done < text.size()) words->push_back(text.substr(done));
}

}  // namespace

struct PreTokenizer::Stage {
  Code code;
};

PreTokenizer::PreTokenizer(const std::vector<SplitStage>& stages) {
  for (const SplitStage& stage : stages) stages_.push_back({compile(pattern_of(stage))});
}
PreTokenizer::~PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;

std::vector<std::string_view> PreTokenizer::split(std::string_view text) const {
  std::vector<std::string_view> words;
  if (text.empty()) return words;
  words.push_back(text);
  if (stages_.empty()) return words;
  const Scratch scratch;
  std::vector<std::string_view> next;
  for (const Stage& stage : stages_) {
    next.clear();
    for (const std::string_view word : words) split_by(stage.code.get(), word, scratch, &next);
    words.swap(next);
  }
  return words;
}

}  // namespace packlight::text
