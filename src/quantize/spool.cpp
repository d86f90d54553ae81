#include "quantize/spool.h"

namespace packlight::quantize {
namespace {

constexpr uint64_t kAlignment = 64;

}  // namespace

uint64_t Spool::append(std::span<const std::byte> bytes) {
  file_->write_zeros((kAlignment - file_->size_bytes() % kAlignment) % kAlignment);
  const uint64_t start = file_->size_bytes();
  file_->write(bytes);
  return start;
}

std::shared_ptr<const base::MappedFile> Spool::finish() {
  file_->flush();
  auto mapped = base::MappedFile::open(file_->temporary_path());
  file_.reset();
  return mapped;
}

}  // namespace packlight::quantize
