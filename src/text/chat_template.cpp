#include "text/chat_template.h"

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "base/fail.h"
#include "text/jinja_interpreter.h"

namespace packlight::text {
namespace {

// Longest published chat templates have some 20 kB.
constexpr size_t kMaxTemplateBytes = 256 * 1024;

constexpr std::string_view kProbe = "Packlight-probe";

struct FamilyMarks {
  ChatFamily family;
  std::vector<std::string_view> marks;  // all stand in the template
  // How the one turn of a conversation that is "Packlight-probe" by the user comes out, somewhere
  // in the text; before and after, spaces may stand.
  std::string_view before, after;
};

const std::vector<FamilyMarks>& families() {
  // The first that fits counts: Llama 2's marks contain Mistral's.
  static const std::vector<FamilyMarks> table = {
      {ChatFamily::kChatMl, {"<|im_start|>", "<|im_end|>"}, "<|im_start|>user\n", "<|im_end|>\n"},
      {ChatFamily::kLlama3,
       {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
       "<|start_header_id|>user<|end_header_id|>\n\n",
       "<|eot_id|>"},
      {ChatFamily::kZephyr, {"<|user|>", "<|assistant|>", "eos_token"}, "<|user|>\n", ""},
      {ChatFamily::kLlama2, {"[INST]", "[/INST]", "<<SYS>>"}, "[INST]", "[/INST]"},
      {ChatFamily::kMistral, {"[INST]", "[/INST]"}, "[INST]", "[/INST]"}};
  return table;
}

[[noreturn]] void unsupported(std::string_view why) {
  fail(ErrorCode::kUnsupported,
       "[text] chat template: {}; known families are ChatML, Llama 2, Llama 3, Mistral and Zephyr. "
       "Use --raw and write the "
       "prompt's turns yourself",
       why);
}

bool speaks(const FamilyMarks& family, std::string_view rendered, std::string_view eos) {
  const size_t at = rendered.find(kProbe);
  if (at == std::string_view::npos) return false;
  const std::string_view head = rendered.substr(0, at), tail = rendered.substr(at + kProbe.size());
  if (family.family == ChatFamily::kLlama2 || family.family == ChatFamily::kMistral) {
    // A default system message and spaces may stand between the marks.
    const size_t open = head.rfind(family.before), close = tail.find(family.after);
    return open != std::string_view::npos &&
           head.find(family.after, open) == std::string_view::npos &&
           close != std::string_view::npos && tail.find_first_not_of(" \n") == close;
  }
  return head.ends_with(family.before) &&
         tail.starts_with(family.family == ChatFamily::kZephyr ? eos : family.after);
}

}  // namespace

struct ChatTemplate::Program {
  jinja::Block block;
};

const char* chat_family_name(ChatFamily family) {
  switch (family) {
    case ChatFamily::kChatMl:
      return "ChatML";
    case ChatFamily::kLlama2:
      return "Llama 2";
    case ChatFamily::kLlama3:
      return "Llama 3";
    case ChatFamily::kMistral:
      return "Mistral";
    case ChatFamily::kZephyr:
      return "Zephyr";
  }
  return "";
}

ChatTemplate ChatTemplate::recognise(std::string_view jinja, std::string_view bos,
                                     std::string_view eos) {
  if (jinja.empty()) unsupported("the model has none");
  if (jinja.size() > kMaxTemplateBytes) unsupported(fmt::format("{} bytes long", jinja.size()));
  const auto stands = [&](std::string_view mark) {
    return jinja.find(mark) != std::string_view::npos;
  };
  const auto family =
      std::find_if(families().begin(), families().end(), [&](const FamilyMarks& candidate) {
        return std::all_of(candidate.marks.begin(), candidate.marks.end(), stands);
      });
  if (family == families().end()) unsupported("of no known family");
  ChatTemplate out;
  out.family_ = family->family;
  out.bos_ = bos;
  out.eos_ = eos;
  out.program_ = std::make_shared<const Program>(Program{jinja::parse(jinja)});
  const ChatMessage probe{"user", std::string(kProbe)};
  std::string rendered;
  try {
    rendered = out.render(std::span(&probe, 1));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInvalidArgument) throw;
    unsupported("it refuses a conversation of one user turn");
  }
  if (!speaks(*family, rendered, eos)) {
    unsupported(fmt::format("it has the marks of {} but writes a turn in another way",
                            chat_family_name(out.family_)));
  }
  return out;
}

std::string ChatTemplate::render(std::span<const ChatMessage> messages,
                                 bool add_generation_prompt) const {
  const auto text = [](const std::string& value) { return jinja::make_text(value); };
  jinja::List list;
  for (const ChatMessage& message : messages) {
    list.push_back(jinja::make_dict(
        {{text("role"), {text(message.role)}}, {text("content"), {text(message.content)}}}));
  }
  return jinja::render(program_->block, {{text("messages"), jinja::make_list(std::move(list))},
                                         {text("add_generation_prompt"), {add_generation_prompt}},
                                         {text("bos_token"), {text(bos_)}},
                                         {text("eos_token"), {text(eos_)}}});
}

}  // namespace packlight::text
