#include "cli/handover.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "base/fail.h"

namespace packlight::cli {
namespace {

constexpr const char* kProgram = "packlight-compress";

}  // namespace

bool runs_here(int argc, char** argv) {
  if (argc < 2) return false;
  const std::string_view verb = argv[1];
  return verb == "run" || verb == "bench";
}

void hand_over(char** argv) {
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  const std::filesystem::path installed = folder.parent_path() / "libexec" / "packlight";
  for (const std::filesystem::path& place : {folder, installed}) {
    execv((place / kProgram).c_str(), argv);
    if (errno != ENOENT && errno != ENOTDIR) {
      fail(ErrorCode::kIo, "[packlight] cannot start {}: {}", (place / kProgram).string(), std::strerror(errno));
    }
  }
  fail(ErrorCode::kNotFound, "[packlight] {} is neither in {} nor in {}: only 'run' and 'bench' work without it", kProgram,
       folder.string(), installed.string());
}

}  // namespace packlight::cli
