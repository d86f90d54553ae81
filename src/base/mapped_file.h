#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace packlight::base {

// A whole file mapped read-only (shared pages, nothing copied). Unmapped when the last owner goes.
class MappedFile {
 public:
  // Errors: NotFound, Io (not a regular file, mmap refused). An empty file maps to an empty span.
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_bytes_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  MappedFile() = default;
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  size_t size_bytes_ = 0;
};

// Tells the kernel that the whole pages inside `range` will not be needed soon, so they leave this process's resident
// set. The bytes stay readable (they are read again from the file). A range that lies in no MappedFile (a buffer that
// stands in for misaligned bytes, say) is left alone, so callers need not know which they hold. Any thread.
void release_pages(std::span<const std::byte> range);

// Gives memory that was freed back to the system, holes between living blocks too. glibc alone keeps such holes and does not
// reuse those of aligned blocks (its bug 14581), so a loop over the layers of a model would grow with every layer.
void release_freed_memory();

// Asks the kernel to read `range` ahead of use.
void prefetch_pages(std::span<const std::byte> range);

}  // namespace packlight::base
