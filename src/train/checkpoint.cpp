#include <ATen/ATen.h>

#include <algorithm>

#include "base/fail.h"
#include "io/safetensors.h"
#include "train/trainer.h"

namespace packlight::train {
namespace {

constexpr const char* kIdentity = "packlight_checkpoint";

codec::DType dtype_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return codec::DType::kF32;
    case at::kDouble:
      return codec::DType::kF64;
    case at::kLong:
      return codec::DType::kI64;
    case at::kByte:
      return codec::DType::kU8;
    default:
      fail(ErrorCode::kInternal, "[train] a checkpoint cannot hold {}",
           c10::toString(tensor.scalar_type()));
  }
}

at::ScalarType scalar_type_of(codec::DType dtype, const std::string& name) {
  switch (dtype) {
    case codec::DType::kF32:
      return at::kFloat;
    case codec::DType::kF64:
      return at::kDouble;
    case codec::DType::kI64:
      return at::kLong;
    case codec::DType::kU8:
      return at::kByte;
    default:
      fail(ErrorCode::kCorrupt, "[train] the checkpoint's tensor '{}' has an unexpected type",
           name);
  }
}

}  // namespace

void save_checkpoint(const std::filesystem::path& path, const Trainer& trainer,
                     const std::string& identity) {
  std::vector<at::Tensor> kept;
  std::vector<io::TensorToWrite> tensors;
  auto state = trainer.state();
  // Widest elements first: every tensor then starts where its type may.
  std::stable_sort(state.begin(), state.end(), [](const auto& a, const auto& b) {
    return a.second.element_size() > b.second.element_size();
  });
  for (const auto& [name, tensor] : state) {
    kept.push_back(tensor.contiguous());
    const at::Tensor& t = kept.back();
    const std::span<const std::byte> bytes(static_cast<const std::byte*>(t.data_ptr()), t.nbytes());
    tensors.push_back({name, dtype_of(t), t.sizes().vec(), {bytes}});
  }
  io::write_safetensors(path, tensors, {{kIdentity, identity}}, 64);
}

Checkpoint load_checkpoint(const std::filesystem::path& path) {
  const io::SafetensorsFile file = io::read_safetensors(path);
  const auto identity = file.metadata.find(kIdentity);
  if (identity == file.metadata.end())
    fail(ErrorCode::kCorrupt, "[train] '{}' is no checkpoint of a training", path.string());
  Checkpoint checkpoint;
  checkpoint.identity = identity->second;
  for (const io::TensorRecord& record : file.tensors) {
    auto* data = const_cast<std::byte*>(record.bytes.data());
    checkpoint.state.emplace_back(
        record.name,
        at::from_blob(data, record.shape, scalar_type_of(record.dtype, record.name)).clone());
  }
  return checkpoint;
}

}  // namespace packlight::train
