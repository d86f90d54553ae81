#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace packlight::text {

enum class ChatFamily { kChatMl, kLlama2, kLlama3, kMistral, kZephyr };

const char* chat_family_name(ChatFamily family);

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

// A model's chat template. The family is recognised from the marks in the Jinja text and confirmed
// by how a small conversation comes out; rendering runs the text itself (the part of Jinja that
// chat templates use, see jinja_syntax.h), so default system messages and every variant inside a
// family come out byte for byte as Jinja2 3.1 renders them with trim_blocks and lstrip_blocks,
// transformers' setting. What only transformers defines (tools, strftime_now) is undefined here; a
// template with a date (Llama 3.2) then uses the one written in it. Immutable; any number of
// threads may use one.
class ChatTemplate {
 public:
  // bos and eos are the pieces of those tokens. Errors: Unsupported for a text of no known family,
  // for one that does not treat a conversation as its family does, and for Jinja that is not known:
  // the message names --raw.
  static ChatTemplate recognise(std::string_view jinja, std::string_view bos, std::string_view eos);
  ChatFamily family() const { return family_; }
  // With the prompt for the assistant's turn at the end when `add_generation_prompt`. Errors:
  // InvalidArgument where the template itself raises (e.g. roles that do not alternate);
  // Unsupported where it does what we do not know.
  std::string render(std::span<const ChatMessage> messages,
                     bool add_generation_prompt = true) const;

 private:
  struct Program;
  ChatFamily family_ = ChatFamily::kChatMl;
  std::string bos_, eos_;
  std::shared_ptr<const Program> program_;
};

}  // namespace packlight::text
