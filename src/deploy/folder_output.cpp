#include "deploy/folder_output.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <system_error>
#include <utility>

#include "base/fail.h"

namespace packlight::deploy {
namespace {

namespace fs = std::filesystem;

bool is_model_file(const std::string& name) {
  return name == "config.json" || name == "generation_config.json" || name.starts_with("tokenizer") ||
         name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
}

void check_replaceable(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error)) {
    if (!error) return;
    fail(ErrorCode::kIo, "[export] '{}': no folder can be written here: {}", path.string(), error.message());
  }
  if (!fs::is_directory(path)) {
    fail(ErrorCode::kInvalidArgument, "[export] '{}': a folder is to be written here, but this is a file", path.string());
  }
  for (const auto& entry : fs::directory_iterator(path)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_regular_file() && is_model_file(name)) continue;
    fail(ErrorCode::kInvalidArgument, "[export] '{}' holds '{}', which is no file of a model: choose another folder",
         path.string(), name);
  }
}

}  // namespace

FolderOutput::FolderOutput(fs::path path) : path_(std::move(path)) {
  if (path_.filename().empty()) path_ = path_.parent_path();  // "out/" is "out"
  check_replaceable(path_);
  const fs::path parent = path_.has_parent_path() ? path_.parent_path() : fs::path(".");
  std::string name = (parent / fmt::format(".{}.XXXXXX", path_.filename().string())).string();
  if (mkdtemp(name.data()) == nullptr) {
    fail(ErrorCode::kIo, "[export] '{}': cannot create a folder here: {}", parent.string(), std::strerror(errno));
  }
  temporary_ = name;
  const mode_t mask = umask(0);
  umask(mask);
  chmod(name.c_str(), 0777 & ~mask);
}

FolderOutput::~FolderOutput() {
  std::error_code ignored;  // a destructor has nobody to tell
  if (!temporary_.empty()) fs::remove_all(temporary_, ignored);
}

void FolderOutput::commit() {
  // With a folder there the two change places in one step, and the destructor removes the earlier one.
  const bool exchange = fs::exists(path_);
  if (renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), exchange ? RENAME_EXCHANGE : 0) != 0) {
    fail(ErrorCode::kIo, "[export] '{}': cannot move the folder into place: {}", path_.string(), std::strerror(errno));
  }
  if (!exchange) temporary_.clear();
}

}  // namespace packlight::deploy
