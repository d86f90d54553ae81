// tokenizer.json: any bytes give a tokenizer or an Error; what loads also encodes, decodes and can
// be written again.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "packlight/error.h"
#include "src/text/hf_reader.h"
#include "src/text/tokenizer_impl.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace packlight;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const text::Tokenizer tokenizer =
        text::open_tokenizer(text::read_tokenizer_json(bytes, "fuzz"));
    const auto ids = tokenizer.encode(bytes.substr(0, 200), {true, true});
    tokenizer.decode(ids, true);
    tokenizer.to_tokenizer_json();
    tokenizer.to_gguf();
  } catch (const Error&) {
  }
  return 0;
}
