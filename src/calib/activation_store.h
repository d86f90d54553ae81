#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "exec/executor.h"

namespace packlight::calib {

// The values that are alive between two blocks, for each batch of calibration windows. Batches are kept in memory in order
// until `max_bytes` are used; the rest live in an unnamed temporary file, which is gone when the process ends, however it ends.
// What comes back is bit for bit what went in, row-major, so spilling changes no result but the last bits of a product with what was
// laid out otherwise (a turned weight). One thread at a time.
class ActivationStore {
 public:
  // The temporary file is made in `folder` when first needed.
  ActivationStore(size_t batches, uint64_t max_bytes, std::filesystem::path folder);
  ~ActivationStore();
  ActivationStore(const ActivationStore&) = delete;
  ActivationStore& operator=(const ActivationStore&) = delete;

  // Replaces a batch's values. Errors: Io (no temporary file, a full disk).
  void put(size_t batch, exec::Values values);
  // Moves a batch's values out. Errors: Io.
  exec::Values take(size_t batch);
  uint64_t spilled_bytes() const { return file_size_; }

 private:
  struct Spilled {
    graph::ValueId id;
    at::ScalarType type;
    std::vector<int64_t> shape;
    uint64_t offset, bytes;
  };
  struct Slot {
    exec::Values values;
    uint64_t bytes = 0;          // in memory
    std::vector<Spilled> spilled;
    uint64_t offset = 0, capacity = 0;  // this batch's part of the file, used again by every block
  };
  void spill(Slot& slot, const exec::Values& values, uint64_t bytes);
  void open_file();

  std::vector<Slot> slots_;
  uint64_t max_bytes_, used_bytes_ = 0, file_size_ = 0;
  std::filesystem::path folder_;
  int fd_ = -1;
};

}  // namespace packlight::calib
