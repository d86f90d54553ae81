#include "io/module_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>

#include "base/fail.h"

namespace packlight::io {
namespace {

constexpr std::string_view kPrefix = "re:";
// Published targets have up to 100 bytes, and need some hundred steps for a module's name.
constexpr size_t kMaxPatternBytes = 512;
constexpr uint32_t kMaxSteps = 100'000;
constexpr uint32_t kMaxHeapKiB = 4096;

std::string reason(int error) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

std::shared_ptr<const void> compile(const std::string& target, std::string_view origin) {
  const std::string_view pattern = std::string_view(target).substr(kPrefix.size());
  if (pattern.size() > kMaxPatternBytes) {
    fail(ErrorCode::kUnsupported, "[hf] '{}': target '{}...' is a pattern of {} bytes, at most {}",
         origin, target.substr(0, 40), pattern.size(), kMaxPatternBytes);
  }
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   PCRE2_ANCHORED | PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C,
                                   &error, &offset, nullptr);
  if (code == nullptr) {
    fail(ErrorCode::kUnsupported, "[hf] '{}': target '{}' is no regular expression: {} (byte {})",
         origin, target, reason(error), offset);
  }
  return {code, pcre2_code_free};
}

}  // namespace

ModulePattern::ModulePattern(std::string target, std::string_view origin)
    : target_(std::move(target)), origin_(origin) {
  if (target_.starts_with(kPrefix)) code_ = compile(target_, origin);
}

bool ModulePattern::matches(std::string_view module) const {
  if (code_ == nullptr) return target_ == module;
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(
      pcre2_match_data_create(1, nullptr), pcre2_match_data_free);
  const std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> limits(
      pcre2_match_context_create(nullptr), pcre2_match_context_free);
  if (!match || !limits) fail(ErrorCode::kOutOfMemory, "[hf] '{}': no memory to match", origin_);
  pcre2_set_match_limit(limits.get(), kMaxSteps);
  pcre2_set_heap_limit(limits.get(), kMaxHeapKiB);
  const int result = pcre2_match(static_cast<const pcre2_code*>(code_.get()),
                                 reinterpret_cast<PCRE2_SPTR>(module.data()), module.size(), 0, 0,
                                 match.get(), limits.get());
  if (result == PCRE2_ERROR_NOMATCH) return false;
  if (result < 0) {
    fail(ErrorCode::kUnsupported, "[hf] '{}': target '{}' fails on module '{}': {}", origin_,
         target_, module, reason(result));
  }
  return true;
}

}  // namespace packlight::io
