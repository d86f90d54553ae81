#include "calib/activation_store.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/fail.h"

namespace packlight::calib {
namespace {

uint64_t size_of(const exec::Values& values) {
  uint64_t bytes = 0;
  for (const auto& [id, tensor] : values) bytes += tensor.nbytes();
  return bytes;
}

// pread or pwrite of the whole range.
template <class Call>
void transfer(Call call, const char* what, int fd, char* data, uint64_t bytes, uint64_t offset,
              const std::filesystem::path& folder) {
  while (bytes > 0) {
    const ssize_t n = call(fd, data, bytes, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      fail(ErrorCode::kIo,
           "[calib] '{}': cannot {} {} bytes of activations in a temporary file of this folder (--max-ram keeps more in "
           "memory): {}",
           folder.string(), what, bytes, n == 0 ? "it ends early" : std::strerror(errno));
    }
    data += n;
    bytes -= n;
    offset += n;
  }
}

}  // namespace

ActivationStore::ActivationStore(size_t batches, uint64_t max_bytes, std::filesystem::path folder)
    : slots_(batches), max_bytes_(max_bytes), folder_(std::move(folder)) {}

ActivationStore::~ActivationStore() {
  if (fd_ >= 0) ::close(fd_);
}

void ActivationStore::open_file() {
  std::string name = (folder_ / ".packlight-activations.XXXXXX").string();
  fd_ = mkostemp(name.data(), O_CLOEXEC);
  if (fd_ < 0) {
    fail(ErrorCode::kIo, "[calib] '{}': cannot create a temporary file in this folder: {}", folder_.string(),
         std::strerror(errno));
  }
  ::unlink(name.c_str());  // the descriptor alone keeps it: nothing is left behind
}

void ActivationStore::put(size_t batch, exec::Values values) {
  Slot& slot = slots_[batch];
  const uint64_t bytes = size_of(values);
  used_bytes_ -= std::exchange(slot.bytes, 0);
  slot.values.clear();
  slot.spilled.clear();
  if (used_bytes_ + bytes > max_bytes_) {
    spill(slot, values, bytes);
    return;
  }
  // A view would keep the whole tensor it looks into.
  for (auto& [id, tensor] : values) {
    if (tensor.storage().nbytes() > tensor.nbytes()) tensor = tensor.clone();
  }
  used_bytes_ += slot.bytes = bytes;
  slot.values = std::move(values);
}

void ActivationStore::spill(Slot& slot, const exec::Values& values, uint64_t bytes) {
  if (fd_ < 0) open_file();
  if (slot.capacity < bytes) {
    slot.offset = file_size_;
    slot.capacity = bytes;
    file_size_ += bytes;
  }
  uint64_t offset = slot.offset;
  for (const auto& [id, tensor] : values) {
    const at::Tensor flat = tensor.contiguous();
    transfer(::pwrite, "keep", fd_, static_cast<char*>(flat.data_ptr()), flat.nbytes(), offset, folder_);
    slot.spilled.push_back({id, flat.scalar_type(), flat.sizes().vec(), offset, flat.nbytes()});
    offset += flat.nbytes();
  }
}

exec::Values ActivationStore::take(size_t batch) {
  Slot& slot = slots_[batch];
  used_bytes_ -= std::exchange(slot.bytes, 0);
  exec::Values values = std::exchange(slot.values, {});
  for (const Spilled& s : std::exchange(slot.spilled, {})) {
    at::Tensor tensor = at::empty(s.shape, at::TensorOptions().dtype(s.type));
    transfer(::pread, "read", fd_, static_cast<char*>(tensor.data_ptr()), s.bytes, s.offset, folder_);
    values[s.id] = std::move(tensor);
  }
  return values;
}

}  // namespace packlight::calib
