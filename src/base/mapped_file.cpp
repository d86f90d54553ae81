#include "base/mapped_file.h"

#include <fcntl.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>

#include "base/fail.h"

namespace packlight::base {
namespace {

// What is mapped now: begin -> end. Advice on memory that is no file's would throw its contents away.
struct Mappings {
  std::mutex mutex;
  std::map<uintptr_t, uintptr_t> ranges;
};
Mappings& mappings() {
  static Mappings* const all = new Mappings;  // outlives every static owner of a mapping
  return *all;
}

bool is_mapped(std::span<const std::byte> range) {
  Mappings& all = mappings();
  const auto begin = reinterpret_cast<uintptr_t>(range.data());
  std::lock_guard lock(all.mutex);
  auto after = all.ranges.upper_bound(begin);
  return after != all.ranges.begin() && begin + range.size() <= (--after)->second;
}

// The whole pages inside a range: advice must not touch bytes of neighbours.
std::span<std::byte> inner_pages(std::span<const std::byte> range) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(range.data());
  const uintptr_t first = (begin + page - 1) / page * page;
  const uintptr_t last = (begin + range.size()) / page * page;
  if (last <= first) return {};
  return {reinterpret_cast<std::byte*>(first), last - first};
}

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path) {
  // Not blocking: a pipe that nobody writes to would never open.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const ErrorCode code = errno == ENOENT || errno == ENOTDIR ? ErrorCode::kNotFound : ErrorCode::kIo;
    fail(code, "[file] '{}': cannot open: {}", path.string(), std::strerror(errno));
  }
  struct stat info;
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    fail(ErrorCode::kIo, "[file] '{}' is not a regular file", path.string());
  }
  std::shared_ptr<MappedFile> file(new MappedFile);
  file->path_ = path;
  if (info.st_size > 0) {
    void* data = mmap(nullptr, info.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) {
      const int reason = errno;
      ::close(fd);
      fail(ErrorCode::kIo, "[file] '{}': cannot map {} bytes: {}", path.string(), info.st_size,
           std::strerror(reason));
    }
    file->data_ = static_cast<const std::byte*>(data);
    file->size_bytes_ = info.st_size;
    const auto begin = reinterpret_cast<uintptr_t>(data);
    std::lock_guard lock(mappings().mutex);
    mappings().ranges[begin] = begin + file->size_bytes_;
  }
  ::close(fd);
  return file;
}

MappedFile::~MappedFile() {
  if (data_ == nullptr) return;
  {
    std::lock_guard lock(mappings().mutex);
    mappings().ranges.erase(reinterpret_cast<uintptr_t>(data_));
  }
  munmap(const_cast<std::byte*>(data_), size_bytes_);
}

// Advice only: a kernel that ignores it changes speed and memory, never the bytes read.
void release_pages(std::span<const std::byte> range) {
  if (!is_mapped(range)) return;
  const auto pages = inner_pages(range);
  if (!pages.empty()) madvise(pages.data(), pages.size(), MADV_DONTNEED);
}

void release_freed_memory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

void prefetch_pages(std::span<const std::byte> range) {
  if (!is_mapped(range)) return;
  const auto pages = inner_pages(range);
  if (!pages.empty()) madvise(pages.data(), pages.size(), MADV_WILLNEED);
}

}  // namespace packlight::base
