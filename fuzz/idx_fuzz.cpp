#include <cstdint>

#include "fuzz/data_entries.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  packlight::fuzz::run(packlight::fuzz::idx, std::as_bytes(std::span(data, size)));
  return 0;
}
