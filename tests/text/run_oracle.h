#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <string>

#include "test_paths.h"

namespace packlight::test {

inline std::filesystem::path oracle_python() { return cache_dir() / "venv" / "bin" / "python"; }

// What `tests/oracle/SCRIPT ARGUMENTS` prints, run with the Python that scripts/setup --tests
// makes.
inline std::string run_oracle(const std::string& script, const std::string& arguments) {
  const std::string command = "'" + oracle_python().string() + "' '" +
                              PACKLIGHT_SOURCE_DIR "/tests/oracle/" + script + "' " + arguments;
  std::string out;
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return out;
  char buffer[4096];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) out.append(buffer, n);
  EXPECT_EQ(pclose(pipe), 0) << command;
  return out;
}

// An empty folder of this test's own, removed at the end.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "packlight-text-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~ScratchFolder() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace packlight::test

#define PACKLIGHT_NEEDS(path)         \
  if (!std::filesystem::exists(path)) \
  GTEST_SKIP() << path << " is missing: run scripts/setup --tests"
