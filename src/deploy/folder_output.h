#pragma once

#include <filesystem>

namespace packlight::deploy {

// A model folder that is written aside and takes its place when complete, so that a failed or interrupted export leaves what was
// there. A folder that is there already is replaced only when it is empty or holds nothing but a model's files (config.json,
// generation_config.json, tokenizer*, *.safetensors, *.safetensors.index.json).
class FolderOutput {
 public:
  // Errors: InvalidArgument for a file, or a folder with other contents (names one); Io.
  explicit FolderOutput(std::filesystem::path path);
  ~FolderOutput();  // removes what was not committed
  FolderOutput(const FolderOutput&) = delete;
  FolderOutput& operator=(const FolderOutput&) = delete;

  // Where to write until commit().
  const std::filesystem::path& folder() const { return temporary_; }
  void commit();  // Errors: Io

 private:
  std::filesystem::path path_, temporary_;
};

}  // namespace packlight::deploy
