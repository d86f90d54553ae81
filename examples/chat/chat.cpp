// A chat with a package, through the installed interface alone:
//   chat MODEL.plk                        a conversation; an empty line or end of input ends it
//   chat MODEL.plk "What is a quark?"     one answer

#include <packlight/session.h>

#include <cstdio>
#include <exception>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

namespace {

// Answers the conversation so far, streaming, and adds the answer to it.
void answer(packlight::Session& session, std::vector<packlight::ChatMessage>& conversation) {
  packlight::Request request;
  request.prompt = session.render_chat(conversation);
  request.add_bos = false;  // a rendered chat holds it where the model wants it
  request.max_tokens = 256;
  const packlight::Generation result = session.generate(request, [](std::string_view text) {
    std::cout << text << std::flush;
    return true;
  });
  std::cout << "\n[" << result.tokens.size() << " tokens, " << packlight::end_reason_name(result.end) << "]\n";
  conversation.push_back({"assistant", result.text});
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::fprintf(stderr, "usage: chat MODEL.plk [QUESTION]\n");
    return 2;
  }
  try {
    packlight::Session session(argv[1]);
    std::vector<packlight::ChatMessage> conversation;
    if (argc == 3) {
      conversation.push_back({"user", argv[2]});
      answer(session, conversation);
      return 0;
    }
    for (std::string line; std::cout << "> " << std::flush, std::getline(std::cin, line) && !line.empty();) {
      conversation.push_back({"user", line});
      answer(session, conversation);
    }
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 1;
  }
}
