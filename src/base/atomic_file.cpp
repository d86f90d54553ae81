#include "base/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>
#include <utility>
#include <vector>

#include "base/fail.h"
#include "base/interrupt.h"

namespace packlight::base {
namespace {

constexpr size_t kBufferBytes = 1 << 20;

void write_all(int fd, const char* data, size_t size, const std::filesystem::path& path) {
  while (size > 0) {
    const ssize_t n = ::write(fd, data, size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      fail(ErrorCode::kIo, "[file] '{}': cannot write {} bytes: {}", path.string(), size,
           std::strerror(errno));
    }
    data += n;
    size -= n;
  }
}

// The file that a rename may replace: what a link points to, never a device, pipe or folder.
std::filesystem::path replaceable(std::filesystem::path path) {
  struct stat now;
  if (::stat(path.c_str(), &now) != 0) {
    // Whatever else is wrong with the path, making a file beside it says so; a link to nothing would be replaced.
    const int reason = errno;
    if (path.filename().empty() || (::lstat(path.c_str(), &now) == 0 && S_ISLNK(now.st_mode))) {
      fail(ErrorCode::kIo, "[file] '{}': no file can be written here: {}", path.string(), std::strerror(reason));
    }
    return path;
  }
  if (S_ISDIR(now.st_mode)) {
    fail(ErrorCode::kIo, "[file] '{}': a file is to be written here, but this is a folder", path.string());
  }
  if (!S_ISREG(now.st_mode)) {
    fail(ErrorCode::kIo, "[file] '{}': this is a device or pipe; only a regular file can be replaced", path.string());
  }
  std::error_code error;
  std::filesystem::path target = std::filesystem::canonical(path, error);
  return error ? path : target;
}

}  // namespace

AtomicFile::AtomicFile(std::filesystem::path path) : path_(replaceable(std::move(path))) {
  const auto folder = path_.has_parent_path() ? path_.parent_path() : std::filesystem::path(".");
  std::string name = (folder / ("." + path_.filename().string() + ".XXXXXX")).string();
  fd_ = mkostemp(name.data(), O_CLOEXEC);
  if (fd_ < 0) {
    fail(ErrorCode::kIo, "[file] '{}': cannot create a file in this folder: {}", path_.string(),
         std::strerror(errno));
  }
  temporary_ = name;
  // mkostemp makes the file private; give it what an ordinary open() would have.
  const mode_t mask = umask(0);
  umask(mask);
  fchmod(fd_, 0666 & ~mask);
  buffer_.reserve(kBufferBytes);
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) {
    ::close(fd_);
    ::unlink(temporary_.c_str());
  }
}

void AtomicFile::flush() {
  write_all(fd_, buffer_.data(), buffer_.size(), path_);
  buffer_.clear();
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  size_bytes_ += bytes.size();
  const char* data = reinterpret_cast<const char*>(bytes.data());
  if (buffer_.size() + bytes.size() <= kBufferBytes) {
    buffer_.append(data, bytes.size());
    return;
  }
  check_interrupt();
  flush();
  if (bytes.size() < kBufferBytes) {
    buffer_.append(data, bytes.size());
  } else {
    write_all(fd_, data, bytes.size(), path_);
  }
}

void AtomicFile::write(std::string_view text) {
  write(std::as_bytes(std::span(text.data(), text.size())));
}

void AtomicFile::write_zeros(uint64_t count) {
  static const std::vector<std::byte> zeros(4096);
  for (; count > 0; count -= std::min<uint64_t>(count, zeros.size())) {
    write(std::span(zeros).first(std::min<uint64_t>(count, zeros.size())));
  }
}

void AtomicFile::write_at(uint64_t offset, std::span<const std::byte> bytes) {
  flush();
  if (offset + bytes.size() > size_bytes_) {
    fail(ErrorCode::kInternal, "[file] '{}': write_at past the end", path_.string());
  }
  while (!bytes.empty()) {
    const ssize_t n = pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(ErrorCode::kIo, "[file] '{}': cannot write: {}", path_.string(), std::strerror(errno));
    bytes = bytes.subspan(n);
    offset += n;
  }
}

void AtomicFile::commit() {
  flush();
  check_interrupt();
  if (fsync(fd_) != 0) {
    fail(ErrorCode::kIo, "[file] '{}': cannot flush to disk: {}", path_.string(), std::strerror(errno));
  }
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    fail(ErrorCode::kIo, "[file] '{}': cannot rename into place: {}", path_.string(),
         std::strerror(errno));
  }
  ::close(std::exchange(fd_, -1));
}

}  // namespace packlight::base
