#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>

#include "fuzz/io_entries.h"
#include "temp_dir.h"

namespace packlight {
namespace {

// tests/io/corpus/TARGET/: one file for each defect that fuzzing found, and the seeds of the fuzz
// targets.
TEST(CorpusTest, EveryFileIsReadOrRefused) {
  const std::map<std::string, fuzz::Entry> entries = {
      {"gguf", fuzz::gguf},
      {"safetensors", fuzz::safetensors},
      {"npy", fuzz::npy},
      {"config_json", fuzz::config_json},
      {"compressed_config", fuzz::compressed_config},
      {"package", fuzz::package},
      {"package_metadata", fuzz::package_metadata}};
  for (const auto& [name, entry] : entries) {
    const std::filesystem::path folder =
        std::filesystem::path(PACKLIGHT_SOURCE_DIR) / "tests/io/corpus" / name;
    int files = 0;
    for (const auto& file : std::filesystem::directory_iterator(folder)) {
      SCOPED_TRACE(file.path().string());
      EXPECT_NO_THROW(fuzz::run(entry, test::read_file(file.path())));
      ++files;
    }
    EXPECT_GT(files, 0) << folder;
  }
}

}  // namespace
}  // namespace packlight
