#include "deploy/folder_output.h"

#include <gtest/gtest.h>

#include <fstream>

#include "error_code.h"
#include "tiny_language_model.h"

namespace packlight::deploy {
namespace {

void write(const std::filesystem::path& path, const char* text) { std::ofstream(path) << text; }

size_t entries(const std::filesystem::path& folder) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

TEST(FolderOutput, AppearsOnlyWhenCommitted) {
  const test::TestFolder folder;
  {
    FolderOutput output(folder / "model");
    write(output.folder() / "config.json", "{}");
    EXPECT_FALSE(std::filesystem::exists(folder / "model"));
  }
  EXPECT_EQ(entries(folder.path()), 0u);
  FolderOutput output(folder / "model/");
  write(output.folder() / "config.json", "{}");
  output.commit();
  EXPECT_TRUE(std::filesystem::exists(folder / "model" / "config.json"));
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(FolderOutput, ReplacesAnEarlierModelAsAWhole) {
  const test::TestFolder folder;
  std::filesystem::create_directory(folder / "model");
  write(folder / "model" / "model-00001-of-00002.safetensors", "old");
  {
    FolderOutput output(folder / "model");
    write(output.folder() / "model.safetensors", "new");
    output.commit();
  }
  EXPECT_EQ(entries(folder / "model"), 1u);
  EXPECT_TRUE(std::filesystem::exists(folder / "model" / "model.safetensors"));
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(FolderOutput, RefusesAFolderWithOtherThingsAndAFile) {
  const test::TestFolder folder;
  std::filesystem::create_directory(folder / "home");
  write(folder / "home" / "diary.txt", "dear");
  test::expect_error(ErrorCode::kInvalidArgument, {"diary.txt"}, [&] { FolderOutput(folder / "home"); });
  test::expect_error(ErrorCode::kInvalidArgument, {"file"}, [&] { FolderOutput(folder / "home" / "diary.txt"); });
  test::expect_error(ErrorCode::kIo, {"nowhere"}, [&] { FolderOutput(folder / "nowhere" / "model"); });
  EXPECT_TRUE(std::filesystem::exists(folder / "home" / "diary.txt"));
}

}  // namespace
}  // namespace packlight::deploy
