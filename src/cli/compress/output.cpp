#include "cli/compress/output.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "base/fail.h"

namespace packlight::cli {

void check_output(const std::filesystem::path& model, const std::filesystem::path& output) {
  std::error_code error;
  const bool same = std::filesystem::equivalent(model, output, error);
  if (same && !error) {
    fail(ErrorCode::kInvalidArgument,
         "[cli] '{}' is the model itself: the output must have another name", output.string());
  }
  check_output_folder(output);
}

void check_output_folder(const std::filesystem::path& output) {
  const std::filesystem::path named = output.has_filename() ? output : output.parent_path();
  const std::filesystem::path folder =
      named.has_parent_path() ? named.parent_path() : std::filesystem::path(".");
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) {
    fail(ErrorCode::kNotFound, "[cli] '{}' cannot be written: there is no folder '{}'",
         output.string(), folder.string());
  }
  if (access(folder.c_str(), W_OK | X_OK) != 0) {
    fail(ErrorCode::kIo, "[cli] '{}' cannot be written: folder '{}': {}", output.string(),
         folder.string(), std::strerror(errno));
  }
}

}  // namespace packlight::cli
