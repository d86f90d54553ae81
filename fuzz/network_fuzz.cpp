#include <cstdint>

#include "fuzz/io_entries.h"
#include "fuzz/network_entry.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  packlight::fuzz::run(packlight::fuzz::network, std::as_bytes(std::span(data, size)));
  return 0;
}
