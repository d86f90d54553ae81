#include "cli/compress/output.h"

#include <system_error>

#include "base/fail.h"

namespace packlight::cli {

void check_output(const std::filesystem::path& model, const std::filesystem::path& output) {
  std::error_code error;
  if (!std::filesystem::equivalent(model, output, error) || error) return;
  fail(ErrorCode::kInvalidArgument, "[cli] '{}' is the model itself: the output must have another name", output.string());
}

}  // namespace packlight::cli
