#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

#include "base/atomic_file.h"
#include "base/mapped_file.h"

namespace packlight::base {

// A scratch file that tensors are appended to as they are made, and read from when all are: so no more than one of them is in
// memory. It lies beside the output, whose disk has to hold as much again, and is removed when this object goes.
class Spool {
 public:
  // Errors: Io when the folder cannot be written.
  explicit Spool(const std::filesystem::path& output) : file_(std::make_unique<AtomicFile>(output)) {}

  // Returns where the bytes start, a multiple of 64. Errors: Io on a full disk.
  uint64_t append(std::span<const std::byte> bytes);

  // Maps what was written and removes the file's name at once: the mapping keeps the bytes. Nothing may be appended after.
  std::shared_ptr<const MappedFile> finish();

 private:
  std::unique_ptr<AtomicFile> file_;
};

}  // namespace packlight::base
