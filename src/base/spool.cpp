#include "base/spool.h"

namespace packlight::base {
namespace {

constexpr uint64_t kSpoolAlignment = 64;

}  // namespace

uint64_t Spool::append(std::span<const std::byte> bytes) {
  file_->write_zeros((kSpoolAlignment - file_->size_bytes() % kSpoolAlignment) % kSpoolAlignment);
  const uint64_t start = file_->size_bytes();
  file_->write(bytes);
  return start;
}

std::shared_ptr<const MappedFile> Spool::finish() {
  file_->flush();
  auto mapped = MappedFile::open(file_->temporary_path());
  file_.reset();
  return mapped;
}

}  // namespace packlight::base
