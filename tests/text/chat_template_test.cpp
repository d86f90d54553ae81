#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <map>

#include "base/json.h"
#include "error_code.h"
#include "run_oracle.h"

namespace packlight::text {
namespace {

using test::expect_error;

const std::filesystem::path kTemplates = PACKLIGHT_SOURCE_DIR "/tests/text/templates";

std::string read_template(const std::string& name) {
  return base::read_text_file(kTemplates / (name + ".jinja"));
}

// Published templates; what begins with refused_ is of no family we know, or does not behave as its
// family does.
const std::map<std::string, ChatFamily>& known_templates() {
  static const std::map<std::string, ChatFamily> table = {
      {"smollm2", ChatFamily::kChatMl},
      {"chatml", ChatFamily::kChatMl},
      {"qwen1.5", ChatFamily::kChatMl},
      {"qwen2", ChatFamily::kChatMl},
      {"qwen2.5", ChatFamily::kChatMl},
      {"llama2", ChatFamily::kLlama2},
      {"llama2_default_system", ChatFamily::kLlama2},
      {"llama3", ChatFamily::kLlama3},
      {"llama3_always_prompt", ChatFamily::kLlama3},
      {"llama3.1", ChatFamily::kLlama3},
      {"llama3.2", ChatFamily::kLlama3},
      {"mistral_v0.1", ChatFamily::kMistral},
      {"mistral_v0.2", ChatFamily::kMistral},
      {"mistral_nemo", ChatFamily::kMistral},
      {"mistral_v7", ChatFamily::kMistral},
      {"zephyr", ChatFamily::kZephyr}};
  return table;
}

TEST(ChatTemplate, RendersAsJinja2) {
  PACKLIGHT_NEEDS(test::oracle_python());
  std::string arguments;
  for (const auto& entry : known_templates())
    arguments += " '" + (kTemplates / (entry.first + ".jinja")).string() + "'";
  const Json cases =
      base::parse_json(test::run_oracle("chat_reference.py", arguments), "chat_reference.py");
  ASSERT_EQ(cases.size(), known_templates().size() * 22);
  for (const Json& wanted : cases) {
    const std::string name =
        std::filesystem::path(wanted["template"].get<std::string>()).stem().string();
    const ChatTemplate chat = ChatTemplate::recognise(read_template(name), "<s>", "</s>");
    std::vector<ChatMessage> messages;
    for (const Json& message : wanted["messages"])
      messages.push_back({message["role"], message["content"]});
    const auto render = [&] {
      return chat.render(messages, wanted["add_generation_prompt"].get<bool>());
    };
    if (wanted.contains("text")) {
      EXPECT_EQ(render(), wanted["text"].get<std::string>()) << name;
    } else {
      expect_error(ErrorCode::kInvalidArgument, {wanted["error"].get<std::string>()}, render);
    }
  }
}

TEST(ChatTemplate, TellsTheFamily) {
  for (const auto& [name, family] : known_templates()) {
    EXPECT_EQ(ChatTemplate::recognise(read_template(name), "<s>", "</s>").family(), family) << name;
  }
}

TEST(ChatTemplate, RefusesOthersNamingRaw) {
  int refused = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kTemplates)) {
    if (!entry.path().filename().string().starts_with("refused_")) continue;
    ++refused;
    SCOPED_TRACE(entry.path());
    expect_error(ErrorCode::kUnsupported, {"--raw"}, [&] {
      ChatTemplate::recognise(base::read_text_file(entry.path()), "<s>", "</s>");
    });
  }
  EXPECT_GE(refused, 5);
  expect_error(ErrorCode::kUnsupported, {"--raw", "the model has none"},
               [] { ChatTemplate::recognise("", "", ""); });
}

TEST(ChatTemplate, WritesTheDefaultSystemMessage) {
  const ChatTemplate chat = ChatTemplate::recognise(read_template("smollm2"), "", "");
  const ChatMessage message{"user", "Hi"};
  EXPECT_EQ(chat.render(std::span(&message, 1)),
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
            "Face<|im_end|>\n"
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
}

// Templates come with models from anywhere: whatever they hold, an error and no more.
TEST(ChatTemplate, SurvivesHostileText) {
  const std::string marks = "{# <|im_start|> <|im_end|> #}";
  const std::string turn = "<|im_start|>user\n{{ messages[0].content }}<|im_end|>\n";
  std::string deep_list = "{{ " + std::string(5000, '[') + std::string(5000, ']') + " }}",
              chain = "{{ 1";
  for (int i = 0; i < 5000; ++i) chain += " + 1";
  std::string nested_if;
  for (int i = 0; i < 5000; ++i) nested_if += "{% if true %}";
  const std::vector<std::string> hostile = {
      "{{",
      "{%",
      "{#",
      "{{ 'x",
      "{% if %}",
      "{% for %}",
      "{% set %}",
      "{% endif %}",
      "{{ }}",
      "{{ 1 1 }}",
      "{{ a[ }}",
      "{{ a[::::] }}",
      "{{ a['\\ud800'] }}",
      "{{ '\\x' }}",
      "{{ 99999999999999999999 }}",
      "{{ 1 // 0 }}",
      "{{ 1 % 0 }}",
      "{{ x.y.z }}",
      "{{ messages | nothing }}",
      "{{ messages is nothing }}",
      "{{ nothing() }}",
      "{{ messages }}",
      "{{ messages + 1 }}",
      "{{ messages == messages }}",
      "{{ 'a' * 100000000 }}",
      deep_list,
      chain + " }}",
      nested_if,
      "{% set ns = namespace(x=1) %}{% set ns.x = ns %}",
      "{{ [namespace()] }}",
      "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor "
      "%}",
      "{% set ns = namespace(x='xxxxxxxx') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x "
      "%}{% endfor %}",
      "{% for i in range(1000000000) %}{% endfor %}",
      "{% for a in range(1000) %}{% for b in range(1000) %}{% for c in range(1000) %}{% endfor "
      "%}{% endfor %}{% endfor %}"};
  for (const std::string& text : hostile) {
    expect_error(ErrorCode::kUnsupported, {"--raw"},
                 [&] { ChatTemplate::recognise(marks + turn + text, "", ""); });
  }
  expect_error(ErrorCode::kUnsupported, {"--raw", "bytes long"},
               [&] { ChatTemplate::recognise(marks + turn + std::string(300000, ' '), "", ""); });
}

constexpr const char* kMarks = "{# <|im_start|> <|im_end|> #}";
constexpr const char* kTurn = "<|im_start|>user\n{{ messages[0].content }}<|im_end|>\n";

// Sets x to 2^n letters.
std::string long_text(int n) {
  std::string out = "{% set x = 'a' %}";
  for (int i = 0; i < n; ++i) out += "{% set x = x ~ x %}";
  return out;
}

// `statement` often enough to show what it costs.
std::string often(const std::string& statement) {
  return "{% for i in range(20000) %}" + statement + "{% endfor %}";
}

// What is only handed on is not copied: some terabytes otherwise.
TEST(ChatTemplate, SharesLongTexts) {
  std::string twice_hundred;
  for (int i = 0; i < 200; ++i) twice_hundred += "ns.x, ";
  const std::string text =
      long_text(24) + "{% set ns = namespace(x=x) %}{% set d = {'x': x} %}" +
      often("{% set y = [ns.x, d.x, d.get('x'), ns.x | string, ns.x | default('')] %}") +
      often("{% set y = x[0] %}") + "{% set y = [" + twice_hundred + "] %}";
  ChatTemplate::recognise(kMarks + (kTurn + text), "", "");
}

TEST(ChatTemplate, StopsTemplatesThatRunAway) {
  const std::string list = "{% set L = range(5000) %}", dict = "{% set d = {'a': 1, 'b': 2} %}";
  const std::vector<std::string> hungry = {
      long_text(26), long_text(20) + "{% for c in x %}{% endfor %}",
      long_text(24) + often("{% set y = x[-1] %}"), long_text(24) + often("{% set y = x[1:] %}"),
      long_text(24) + often("{% set y = x[::-1] %}"),
      long_text(24) + often("{% set y = x + 'b' %}"),
      long_text(24) + often("{% set y = x.split('b') %}"),
      long_text(24) + often("{% set y = x.replace('a', 'bb') %}"),
      long_text(24) + often("{% set y = x | length %}"),
      long_text(24) + often("{% set y = x | upper %}"),
      long_text(24) + often("{% set y = x.strip('a') %}"),
      long_text(24) + often("{% set y = x == 'b' ~ x[1:] %}"),
      long_text(24) + often("{% set y = 'b' in x %}"),
      // As many comparisons as the product of the sizes would take years.
      long_text(24) + "{% set z = x[:8000000] ~ 'b' %}" + often("{% set y = z in x %}"),
      long_text(20) + often("{% set y = [x, x] | join(x) %}"), long_text(20) + often("{{ x }}"),
      often("{% set y = {'" + std::string(200000, 'a') + "': 1} %}"),
      list + "{% for i in L %}{% set y = L[1:] %}{% endfor %}",
      list + "{% for i in L %}{% set y = L + L %}{% endfor %}",
      list + "{% for i in L %}{% set y = -1 in L %}{% endfor %}",
      list + "{% for i in L %}{% for j in L %}{% endfor %}{% endfor %}",
      list + "{% for i in L %}{% set y = L | selectattr('a') %}{% endfor %}",
      list + "{% for i in L %}{% set y = L | join %}{% endfor %}",
      dict + often("{% for i in range(20) %}{% set y = d.items() %}{% endfor %}")};
  for (const std::string& text : hungry) {
    SCOPED_TRACE(text.substr(std::max<size_t>(60, text.size()) - 60));
    expect_error(ErrorCode::kUnsupported, {"runs away", "--raw"},
                 [&] { ChatTemplate::recognise(kMarks + (kTurn + text), "", ""); });
  }
  expect_error(ErrorCode::kUnsupported, {"a name of 300 letters"}, [&] {
    ChatTemplate::recognise(kMarks + (kTurn + ("{% set " + std::string(300, 'a') + " = 1 %}")), "",
                            "");
  });
}

// The limits are far above what a long conversation takes.
TEST(ChatTemplate, RendersMegabytes) {
  std::vector<ChatMessage> messages;
  for (int i = 0; i < 300; ++i)
    messages.push_back({i % 2 == 0 ? "user" : "assistant", std::string(10000, 'a')});
  for (const auto& entry : known_templates()) {
    const ChatTemplate chat = ChatTemplate::recognise(read_template(entry.first), "<s>", "</s>");
    EXPECT_GT(chat.render(messages).size(), 3000000) << entry.first;
  }
}

TEST(ChatTemplate, SlicesByCharacters) {
  const std::string show =
      "{% set t = 'aé€😀' %}{% set l = [1, 2, 3] %}{{ t[1] ~ t[-1] ~ t[4] ~ t[-5] }} "
      "{{ t[1:3] }} {{ t[-2:] }} {{ t[::-1] }} {{ t[2::-1] }} {{ t[:1:-1] }} {{ t[3:1] }} "
      "{{ t[9:] ~ ''[::-1] }} {% for c in t %}{{ c }}.{% endfor %} {{ l[:2] | join }} "
      "{{ l[::-1] | join }} {{ l[5:] | join }} {{ l[-2:] | join }} {{ l[0:-1] | join('-') }}";
  const ChatTemplate chat = ChatTemplate::recognise(kMarks + (kTurn + show), "", "");
  const ChatMessage message{"user", "Hi"};
  EXPECT_EQ(chat.render(std::span(&message, 1)),
            "<|im_start|>user\nHi<|im_end|>\né😀 é€ €😀 😀€éa €éa 😀€   a.é.€.😀. 12 321  23 1-2");
}

}  // namespace
}  // namespace packlight::text
