#include <cstdint>
#include <cstring>

#include "fuzz/io_entries.h"
#include "fuzz/onnx_entry.h"
#include "fuzz/onnx_mutator.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  packlight::fuzz::run(packlight::fuzz::onnx, std::as_bytes(std::span(data, size)));
  return 0;
}

// Mostly the message, now and then its bytes.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  onnx::ModelProto model;
  if (seed % 16 == 0 || !model.ParseFromArray(data, static_cast<int>(size)))
    return LLVMFuzzerMutate(data, size, max_size);
  for (unsigned i = 0; i <= seed % 4; ++i) packlight::fuzz::OnnxMutator(seed + i).mutate(model);
  const std::string bytes = model.SerializePartialAsString();
  if (bytes.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  std::memcpy(data, bytes.data(), bytes.size());
  return bytes.size();
}
