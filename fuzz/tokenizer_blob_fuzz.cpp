// The packed tokenizer: any bytes give a tokenizer or an Error; what opens also encodes, decodes
// and can be written.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "packlight/error.h"
#include "src/text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace packlight;
  // Exactly `size` bytes, so that a read beyond them is seen.
  const std::vector<std::byte> bytes(reinterpret_cast<const std::byte*>(data),
                                     reinterpret_cast<const std::byte*>(data) + size);
  try {
    const text::Tokenizer tokenizer = text::Tokenizer::from_blob(bytes, nullptr, "fuzz");
    const auto ids =
        tokenizer.encode("Some text, caf\xC3\xA9 <|im_start|> \xE2\x96\x81 12\xFF", {true, true});
    tokenizer.decode(ids, true);
    text::StreamDecoder stream(tokenizer);
    for (const text::TokenId id : ids) stream.push(id);
    stream.finish();
    tokenizer.to_tokenizer_json();
    tokenizer.to_gguf();
  } catch (const Error&) {
  }
  return 0;
}
