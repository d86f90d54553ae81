#include "packlight/session.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "io/gguf.h"
#include "runtime/tiny_model.h"
#include "text/tokenizer.h"

namespace packlight {
namespace {

constexpr const char* kChatMl =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

// GPT-2's printable stand-in for a byte, in UTF-8.
std::string byte_piece(int byte) {
  const auto printable = [](int b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  };
  int code = byte;
  if (!printable(byte)) {
    code = 256;
    for (int b = 0; b < byte; ++b) code += printable(b) ? 0 : 1;
  }
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
}

// Three control tokens, then one token for each byte: ids 3 to 258.
std::vector<std::byte> byte_tokenizer(const std::string& chat_template) {
  std::vector<std::string> tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  std::vector<int32_t> types(3, 3);
  for (int byte = 0; byte < 256; ++byte) {
    tokens.push_back(byte_piece(byte));
    types.push_back(1);
  }
  io::GgufFile file;
  file.path = "test";
  const auto set = [&](const char* key, auto value) {
    file.metadata.emplace_back(key, io::GgufValue{std::move(value)});
  };
  set("tokenizer.ggml.model", std::string("gpt2"));
  set("tokenizer.ggml.pre", std::string("smollm"));
  set("tokenizer.ggml.tokens", tokens);
  set("tokenizer.ggml.token_type", types);
  set("tokenizer.ggml.merges", std::vector<std::string>{});
  set("tokenizer.ggml.eos_token_id", uint32_t{2});
  if (!chat_template.empty()) set("tokenizer.chat_template", chat_template);
  return text::Tokenizer::from_gguf(file).to_blob();
}

// SentencePiece: 3 special tokens, the bytes from id 3 on, then words with a space before them up
// to id 263.
std::vector<std::byte> sentencepiece_tokenizer() {
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<int32_t> types = {2, 3, 3};
  for (int byte = 0; byte < 256; ++byte) {
    tokens.push_back(fmt::format("<0x{:02X}>", byte));
    types.push_back(6);
  }
  for (const char* word : {"\u2581", "\u2581one", "\u2581two", "\u2581six", "\u2581ten"}) {
    tokens.emplace_back(word);
    types.push_back(1);
  }
  io::GgufFile file;
  file.path = "test";
  file.metadata = {{"tokenizer.ggml.model", {std::string("llama")}},
                   {"tokenizer.ggml.tokens", {tokens}},
                   {"tokenizer.ggml.token_type", {types}}};
  return text::Tokenizer::from_gguf(file).to_blob();
}

class SessionTest : public testing::Test {
 protected:
  // A package whose tokenizer is bytes; `end` becomes the model's end token.
  std::string package(int64_t end = 2, const std::string& chat_template = kChatMl) {
    test::TinyModel model{test::tiny_config(), nullptr};
    model.config.vocab_size = 264;         // five rows of padding after the tokenizer's 259
    model.config.tied_embeddings = false;  // else a random model only repeats its last token
    model.config.eos_tokens = {end};
    const std::vector<std::byte> tokenizer = byte_tokenizer(chat_template);
    write_tiny_model(model, folder_ / "session.plk", {{"tokenizer", tokenizer}});
    return (folder_ / "session.plk").string();
  }

  static SessionOptions options(int64_t context = 64, int sequences = 1) {
    return {.threads = 2, .context = context, .sequences = sequences};
  }

  static Request request(const std::string& prompt, int64_t most = 24) {
    Request r;
    r.prompt = prompt;
    r.max_tokens = most;
    return r;
  }

  test::TemporaryFolder folder_;
};

template <class F>
std::pair<ErrorCode, std::string> error_of(F&& call) {
  try {
    call();
  } catch (const Error& e) {
    return {e.code(), e.what()};
  }
  return {ErrorCode::kInternal, "nothing was thrown"};
}

TEST_F(SessionTest, StreamsTheTextItReturns) {
  Session session(package(), options());
  std::string streamed;
  const Generation g = session.generate(request("Hello"), [&](std::string_view text) {
    streamed += text;
    return true;
  });
  EXPECT_EQ(streamed, g.text);
  EXPECT_EQ(g.prompt_tokens, 5);
  EXPECT_EQ(g.end, EndReason::kMaxTokens);
  EXPECT_EQ(g.tokens.size(), 24u);
  for (const int32_t id : g.tokens) EXPECT_LT(id, 259);  // never a row of padding
  EXPECT_GT(g.prefill_seconds, 0);
  EXPECT_GT(g.decode_seconds, 0);
}

TEST_F(SessionTest, KeepsTheSpaceAfterAPromptAndStripsAnAnswers) {
  test::TinyModel model{test::tiny_config(), nullptr};
  model.config.vocab_size = 264;
  model.config.tied_embeddings = false;
  model.config.eos_tokens = {2};
  const std::vector<std::byte> tokenizer = sentencepiece_tokenizer();
  write_tiny_model(model, folder_ / "spm.plk", {{"tokenizer", tokenizer}});
  Session session((folder_ / "spm.plk").string(), options());
  int words = 0;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Request drawn = request("Once", 1);
    drawn.sampling = {.temperature = 5, .seed = seed};
    const Generation raw = session.generate(drawn);
    drawn.add_bos = false;
    const Generation answer = session.generate(drawn);
    drawn.prompt = "";
    drawn.add_bos = true;
    const Generation start = session.generate(drawn);
    const auto is_word = [](const Generation& g) {
      return g.tokens.size() == 1 && g.tokens[0] > 259;
    };
    if (!is_word(raw) || !is_word(answer) || !is_word(start)) continue;
    ++words;
    EXPECT_EQ(raw.text.front(), ' ') << raw.text;
    EXPECT_NE(answer.text.front(), ' ') << answer.text;
    EXPECT_NE(start.text.front(), ' ') << start.text;
  }
  EXPECT_GT(words, 0);
}

TEST_F(SessionTest, GreedyIsTheSameEveryTimeAndDrawsFollowTheSeed) {
  Session session(package(), options());
  EXPECT_EQ(session.generate(request("abc")).tokens, session.generate(request("abc")).tokens);
  Request drawn = request("abc");
  drawn.sampling = {.temperature = 2, .seed = 3};
  const auto first = session.generate(drawn).tokens;
  EXPECT_EQ(session.generate(drawn).tokens, first);
  drawn.sampling.seed = 4;
  EXPECT_NE(session.generate(drawn).tokens, first);
}

TEST_F(SessionTest, EndsAtTheModelsEndToken) {
  Session probe(package(), options());
  const std::vector<int32_t> tokens = probe.generate(request("Hello")).tokens;
  const int32_t end = tokens[3];
  const auto first = std::find(tokens.begin(), tokens.end(), end) - tokens.begin();
  Session session(package(end), options());
  const Generation g = session.generate(request("Hello"));
  EXPECT_EQ(g.end, EndReason::kEndToken);
  EXPECT_EQ(g.tokens, std::vector<int32_t>(tokens.begin(), tokens.begin() + first));
}

TEST_F(SessionTest, EndsBeforeAStopStringThatCrossesTokens) {
  Session session(package(), options());
  Request drawn = request("Hello");
  drawn.sampling = {.temperature = 1, .seed = 11};
  const std::string whole = session.generate(drawn).text;
  ASSERT_GT(whole.size(), 8u);
  drawn.stop = {"never in the text", whole.substr(4, 4)};  // every token is a byte: four tokens
  std::string streamed;
  const Generation g = session.generate(drawn, [&](std::string_view text) {
    streamed += text;
    return true;
  });
  EXPECT_EQ(g.end, EndReason::kStopText);
  EXPECT_EQ(g.text, whole.substr(0, whole.find(drawn.stop[1])));
  EXPECT_EQ(streamed, g.text);
}

TEST_F(SessionTest, EndsWhenTheContextIsFull) {
  Session session(package(), options(16));
  const Generation g = session.generate(request("0123456789", -1));
  EXPECT_EQ(g.end, EndReason::kContextFull);
  EXPECT_EQ(g.tokens.size(), 7u);  // six positions are left, and the seventh token needs none
  const auto [code, message] = error_of([&] { session.generate(request("0123456789abcdefg")); });
  EXPECT_EQ(code, ErrorCode::kInvalidArgument);
  EXPECT_NE(message.find("17 tokens, the context holds 16"), std::string::npos) << message;
}

TEST_F(SessionTest, NoTokensAskedForGivesNone) {
  Session session(package(), options());
  const Generation g = session.generate(request("abc", 0));
  EXPECT_TRUE(g.tokens.empty());
  EXPECT_EQ(g.end, EndReason::kMaxTokens);
}

TEST_F(SessionTest, TheCallbackCancels) {
  Session session(package(), options());
  int pieces = 0;
  const Generation g =
      session.generate(request("Hello", -1), [&](std::string_view) { return ++pieces < 3; });
  EXPECT_EQ(g.end, EndReason::kCancelled);
  EXPECT_EQ(pieces, 3);
  EXPECT_EQ(session.generate(request("Hello", 4)).end,
            EndReason::kMaxTokens);  // and the session goes on
}

TEST_F(SessionTest, CancelEndsAfterTheCurrentToken) {
  Session session(package(), options());
  const Generation g = session.generate(request("Hello", -1), [&](std::string_view) {
    session.cancel();
    return true;
  });
  EXPECT_EQ(g.end, EndReason::kCancelled);
}

TEST_F(SessionTest, APromptInPiecesGivesTheSameText) {
  const std::string prompt = "A prompt of more tokens than a piece holds.";
  Session whole(package(), options());
  SessionOptions small = options();
  small.max_batch_tokens = 5;
  Session pieces(package(), small);
  EXPECT_EQ(pieces.generate(request(prompt, 12)).tokens,
            whole.generate(request(prompt, 12)).tokens);
}

TEST_F(SessionTest, ALongerPromptReusesTheCache) {
  Session session(package(), options()), fresh(package(), options());
  session.generate(request("The same beginning", 6));
  const Generation g = session.generate(request("The same beginning, another end", 6));
  EXPECT_EQ(g.reused_tokens, 18);
  EXPECT_EQ(g.tokens, fresh.generate(request("The same beginning, another end", 6)).tokens);
  const Generation again = session.generate(request("The same", 6));
  EXPECT_EQ(again.reused_tokens, 7);  // the last token runs again: its logits are wanted
  EXPECT_EQ(again.tokens, fresh.generate(request("The same", 6)).tokens);
}

TEST_F(SessionTest, RequestsTogetherGiveWhatEachGivesAlone) {
  const std::string path = package();
  Session together(path, options(64, 4)), alone(path, options());
  std::vector<Request> requests = {request("One beginning, first", 20), request("Other", 3),
                                   request("One beginning, second", 11),
                                   request("One beginning, first", 20)};
  std::vector<std::string> streamed(4);
  const std::vector<Generation> results =
      together.generate_together(requests, [&](size_t i, std::string_view text) {
        streamed[i] += text;
        return true;
      });
  ASSERT_EQ(results.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(results[i].tokens, alone.generate(requests[i]).tokens) << "request " << i;
    EXPECT_EQ(results[i].text, streamed[i]);
  }
  EXPECT_EQ(results[2].reused_tokens, 15);  // copied from the first
  EXPECT_EQ(results[3].reused_tokens, 19);
  requests.push_back(request("too many"));
  EXPECT_EQ(error_of([&] { together.generate_together(requests); }).first,
            ErrorCode::kInvalidArgument);
}

TEST_F(SessionTest, ATextIsWholeCharacters) {
  Session session(package(), options(200));
  Request drawn = request("x", 150);
  drawn.sampling = {.temperature = 3, .seed = 2};  // random bytes, mostly broken UTF-8
  session.generate(drawn, [](std::string_view text) {
    EXPECT_NE(static_cast<unsigned char>(text.front()) & 0xc0, 0x80)
        << "a piece begins inside a character";
    return true;
  });
}

TEST_F(SessionTest, RendersAChatAndKnowsWhenItCannot) {
  Session session(package(), options());
  EXPECT_TRUE(session.facts().has_chat_template);
  EXPECT_EQ(session.render_chat({{"user", "Hi"}}),
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(session.tokenize("<|im_start|>a", false), (std::vector<int32_t>{1, 3 + 'a'}));
  Session bare(package(2, ""), options());
  const auto [code, message] = error_of([&] { bare.render_chat({{"user", "Hi"}}); });
  EXPECT_EQ(code, ErrorCode::kUnsupported);
  EXPECT_NE(message.find("--raw"), std::string::npos) << message;
}

TEST_F(SessionTest, RequestsThatCannotBeAreRefused) {
  Session session(package(), options());
  EXPECT_EQ(error_of([&] { session.generate(request("")); }).first, ErrorCode::kInvalidArgument);
  Request bad = request("a");
  bad.stop = {""};
  EXPECT_EQ(error_of([&] { session.generate(bad); }).first, ErrorCode::kInvalidArgument);
  bad = request("a");
  bad.sampling.top_p = 2;
  EXPECT_EQ(error_of([&] { session.generate(bad); }).first, ErrorCode::kInvalidArgument);
  EXPECT_EQ(error_of([&] { Session(package(), options(257)); }).first, ErrorCode::kInvalidArgument);
}

TEST_F(SessionTest, OtherFilesSayWhatToDo) {
  const std::string path = (folder_ / "model.gguf").string();
  std::ofstream(path) << "GGUF" << std::string(100, '\0');
  const auto [code, message] = error_of([&] { Session session(path); });
  EXPECT_EQ(code, ErrorCode::kUnsupported);
  EXPECT_NE(message.find("packlight quantize"), std::string::npos) << message;
  EXPECT_EQ(error_of([&] { Session session((folder_ / "absent.plk").string()); }).first,
            ErrorCode::kNotFound);
}

TEST_F(SessionTest, ADamagedPackageIsAnErrorAtAnyLength) {
  const std::string path = package();
  std::ifstream in(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  for (size_t cut = 1; cut < 40; ++cut) {
    const std::string name = (folder_ / "cut.plk").string();
    std::ofstream(name, std::ios::binary) << bytes.substr(0, bytes.size() * cut / 40);
    const auto [code, message] = error_of([&] { Session session(name, options()); });
    EXPECT_TRUE(code == ErrorCode::kCorrupt || code == ErrorCode::kUnsupported)
        << cut << ": " << message;
  }
}

TEST_F(SessionTest, APackageWithoutATokenizerIsAnError) {
  test::write_tiny_model({test::tiny_config(), nullptr}, folder_ / "bare.plk");
  const auto [code, message] =
      error_of([&] { Session session((folder_ / "bare.plk").string(), options()); });
  EXPECT_EQ(code, ErrorCode::kCorrupt);
  EXPECT_NE(message.find("tokenizer"), std::string::npos) << message;
}

}  // namespace
}  // namespace packlight
