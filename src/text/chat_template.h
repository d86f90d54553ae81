#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace packlight::text {

enum class ChatFamily { kChatMl, kLlama2, kLlama3, kMistral, kZephyr };

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

// A chat template recognised from its Jinja text (not interpreted): family, default system message,
// and the variants inside a family that change bytes. Rendering equals Jinja2's byte for byte.
class ChatTemplate {
 public:
  // bos and eos are the pieces of those tokens. Errors: Unsupported for a text of no known family:
  // the message names --raw.
  static ChatTemplate recognise(std::string_view jinja, std::string_view bos, std::string_view eos);
  ChatFamily family() const { return family_; }
  // With the prompt for the assistant's turn at the end when `add_generation_prompt`. Errors:
  // InvalidArgument where the template itself raises (e.g. roles that do not alternate).
  std::string render(std::span<const ChatMessage> messages,
                     bool add_generation_prompt = true) const;

 private:
  ChatFamily family_ = ChatFamily::kChatMl;
  std::string bos_, eos_, default_system_, jinja_;
};

}  // namespace packlight::text
