#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "base/atomic_file.h"
#include "base/fail.h"
#include "base/json.h"
#include "base/mapped_file.h"

namespace packlight::base {
namespace {

namespace fs = std::filesystem;

class Files : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "packlight_files_XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  void TearDown() override { fs::remove_all(folder_); }

  static void write(const fs::path& path, std::string_view text) {
    AtomicFile file(path);
    file.write(text);
    file.commit();
  }
  static std::string refusal(const fs::path& path) {
    try {
      write(path, "new");
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kIo);
      return e.what();
    }
    return "";
  }
  size_t entries() const { return std::distance(fs::directory_iterator(folder_), {}); }

  fs::path folder_;
};

TEST_F(Files, AtomicFileReplacesOnlyOnCommit) {
  const fs::path path = folder_ / "model.plk";
  write(path, "old");
  {
    AtomicFile file(path);
    file.write("half");
    file.flush();
  }
  EXPECT_EQ(read_text_file(path), "old");
  EXPECT_EQ(entries(), 1);
  write(path, "new");
  EXPECT_EQ(read_text_file(path), "new");
}

TEST_F(Files, AtomicFileNeverReplacesAPipeOrFolder) {
  const fs::path pipe = folder_ / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_NE(refusal(pipe).find("pipe"), std::string::npos);
  EXPECT_TRUE(fs::is_fifo(pipe));
  EXPECT_NE(refusal(folder_).find("folder"), std::string::npos);
  EXPECT_EQ(entries(), 1);
}

TEST_F(Files, AtomicFileWritesThroughALink) {
  write(folder_ / "target", "old");
  fs::create_symlink("target", folder_ / "link");
  write(folder_ / "link", "new");
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  EXPECT_EQ(read_text_file(folder_ / "target"), "new");
  fs::create_symlink("nothing", folder_ / "dangling");
  EXPECT_NE(refusal(folder_ / "dangling"), "");
  fs::create_symlink("circle", folder_ / "circle");
  EXPECT_NE(refusal(folder_ / "circle" / "x"), "");
}

TEST_F(Files, AtomicFileNamesAPathThatTheSystemRefuses) {
  const std::string name(300, 'n');
  EXPECT_NE(refusal(folder_ / name).find(name), std::string::npos);
  EXPECT_NE(refusal(folder_ / "absent" / "x"), "");
}

TEST_F(Files, MappedFileRefusesAPipeInsteadOfWaitingForItsWriter) {
  ASSERT_EQ(mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  EXPECT_THROW(MappedFile::open(folder_ / "pipe"), Error);
}

}  // namespace
}  // namespace packlight::base
