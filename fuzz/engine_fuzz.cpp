#include <cmath>
#include <cstdint>
#include <cstring>

#include "fuzz/engine_entry.h"
#include "fuzz/io_entries.h"
#include "fuzz/json_mutator.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  packlight::fuzz::run(packlight::fuzz::engine, std::as_bytes(std::span(data, size)));
  return 0;
}

// Mostly the document, now and then its bytes.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  packlight::Json json = packlight::Json::parse(data, data + size, nullptr, false);
  if (seed % 16 == 0 || json.is_discarded()) return LLVMFuzzerMutate(data, size, max_size);
  for (unsigned i = 0; i <= seed % 3; ++i) packlight::fuzz::JsonMutator(seed + i).mutate(json);
  const std::string text = json.dump(-1, ' ', false, packlight::Json::error_handler_t::replace);
  if (text.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  std::memcpy(data, text.data(), text.size());
  return text.size();
}
