#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace packlight::base {

// Writes a file aside (same folder, unique name) and renames it over `path` on commit(), after fsync:
// an interrupted or failed write never replaces or harms an earlier file. Without commit() the
// destructor removes what was written. A link is followed: the file it points to is replaced.
// Not for use by several threads at once.
class AtomicFile {
 public:
  // Errors: Io with the path and the system's reason; Io for a folder, device, pipe or dangling link.
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);  // appends; Io on a full disk
  void write(std::string_view text);
  void write_zeros(uint64_t count);
  void write_at(uint64_t offset, std::span<const std::byte> bytes);  // overwrites earlier bytes
  uint64_t size_bytes() const { return size_bytes_; }
  // Where the bytes are until commit(); readable (and mappable) meanwhile after flush().
  const std::filesystem::path& temporary_path() const { return temporary_; }
  void flush();
  void commit();  // Errors: Io; Interrupted after Ctrl-C, before anything is replaced

 private:
  std::filesystem::path path_, temporary_;
  int fd_ = -1;
  uint64_t size_bytes_ = 0;
  std::string buffer_;
};

}  // namespace packlight::base
