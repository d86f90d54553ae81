// A chat template: any bytes give a rendering or an Error.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "packlight/error.h"
#include "src/text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace packlight;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const text::ChatTemplate chat = text::ChatTemplate::recognise(bytes, "<s>", "</s>");
    const std::vector<text::ChatMessage> messages = {
        {"system", "Be brief."}, {"user", "Hi"}, {"assistant", "Yes?"}};
    chat.render(messages, false);
  } catch (const Error&) {
  }
  return 0;
}
