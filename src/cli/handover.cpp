#include "cli/handover.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "base/fail.h"
#include "io/hf_folder.h"

namespace packlight::cli {
namespace {

constexpr const char* kProgram = "packlight-compress";

}  // namespace

bool runs_here(int argc, char** argv) {
  if (argc < 2) return false;
  const std::string_view verb = argv[1];
  if (verb != "run" && verb != "bench") return false;
  for (int i = 2; i < argc; ++i) {  // an ONNX network is read and run by the other program
    // YAML is read by the other program.
    if (std::string_view(argv[i]).starts_with("--preprocess")) return false;
    try {
      if (argv[i][0] != '-' && std::filesystem::is_regular_file(argv[i]) && io::detect_model_kind(argv[i]) == io::ModelKind::kOnnx)
        return false;
    } catch (const std::exception&) {  // no model: another argument, or something that the verb will name
    }
  }
  return true;
}

void hand_over(char** argv) {
  // OpenMP's threads and OpenBLAS's take turns on the same cores; one that spins while it waits costs the other its time
  // (evaluation took three times as long). OpenMP reads this when its library is loaded, so it must be set before.
  setenv("OMP_WAIT_POLICY", "passive", /*overwrite=*/0);
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
