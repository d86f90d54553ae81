// Ids of whole vocabularies: llama.cpp's, kept in llama_golden.txt (written by
// tests/oracle/tokenizer_llama_golden.py), and those of PyPI `tokenizers`, asked while testing.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "io/gguf.h"
#include "run_oracle.h"
#include "test_texts.h"
#include "text/tokenizer.h"

namespace packlight::text {
namespace {

struct Golden {
  std::string text;
  bool parse_special;
  size_t count;
  std::string hash;
};

std::vector<Golden> read_golden(const std::string& vocabulary) {
  std::ifstream file(PACKLIGHT_SOURCE_DIR "/tests/text/llama_golden.txt");
  std::vector<Golden> out;
  std::string name;
  Golden golden;
  while (file >> name >> golden.text >> golden.parse_special >> golden.count >> golden.hash) {
    if (name == vocabulary) out.push_back(golden);
  }
  EXPECT_EQ(out.size(), 4u) << vocabulary;
  return out;
}

void expect_ids(const Tokenizer& tokenizer, const Golden& golden, const std::string& what) {
  const std::string text = golden.text == "long" ? test::long_text() : test::awkward_text();
  const std::vector<TokenId> ids = tokenizer.encode(text, {true, golden.parse_special});
  EXPECT_EQ(ids.size(), golden.count)
      << what << ", text " << golden.text << ", parse_special " << golden.parse_special;
  EXPECT_EQ(fmt::format("{:016x}", test::fnv1a(ids)), golden.hash)
      << what << ", text " << golden.text << ", parse_special " << golden.parse_special;
}

class Vocabulary : public testing::TestWithParam<const char*> {
 protected:
  std::filesystem::path path() const { return test::cache_dir() / GetParam(); }
};

TEST_P(Vocabulary, GivesTheIdsOfLlamaCpp) {
  PACKLIGHT_NEEDS(path());
  const Tokenizer tokenizer = Tokenizer::from_gguf(io::read_gguf(path()));
  for (const Golden& golden : read_golden(GetParam())) expect_ids(tokenizer, golden, "from GGUF");
}

TEST_P(Vocabulary, SurvivesTheBlob) {
  PACKLIGHT_NEEDS(path());
  const std::vector<std::byte> blob = Tokenizer::from_gguf(io::read_gguf(path())).to_blob();
  const Tokenizer tokenizer = Tokenizer::from_blob(blob, nullptr, "x.plk");
  EXPECT_EQ(tokenizer.to_blob(), blob);
  for (const Golden& golden : read_golden(GetParam()))
    expect_ids(tokenizer, golden, "from the blob");
}

TEST_P(Vocabulary, SurvivesGguf) {
  PACKLIGHT_NEEDS(path());
  io::GgufFile again;
  again.path = "written";
  again.metadata = Tokenizer::from_gguf(io::read_gguf(path())).to_gguf();
  const Tokenizer tokenizer = Tokenizer::from_gguf(again);
  for (const Golden& golden : read_golden(GetParam()))
    expect_ids(tokenizer, golden, "from written GGUF");
}

TEST_P(Vocabulary, GivesTheIdsOfTokenizersThroughTokenizerJson) {
  PACKLIGHT_NEEDS(path());
  PACKLIGHT_NEEDS(test::oracle_python());
  const test::ScratchFolder folder;
  const std::filesystem::path json = folder.path() / "tokenizer.json",
                              config = folder.path() / "tokenizer_config.json";
  const Tokenizer original = Tokenizer::from_gguf(io::read_gguf(path()));
  std::ofstream(json) << original.to_tokenizer_json();
  std::ofstream(config) << original.to_tokenizer_config_json();
  const Tokenizer tokenizer = Tokenizer::from_hf(json, config);
  EXPECT_EQ(tokenizer.bos(), original.bos());
  EXPECT_EQ(tokenizer.eos(), original.eos());
  EXPECT_EQ(tokenizer.chat_template(), original.chat_template());
  std::istringstream lines(test::run_oracle("tokenizer_ids.py", json.string()));
  Golden golden;
  int cases = 0;
  while (lines >> golden.text >> golden.parse_special >> golden.count >> golden.hash) {
    expect_ids(tokenizer, golden, "from tokenizer.json");
    ++cases;
  }
  EXPECT_EQ(cases, 4);

  // Back to GGUF, llama.cpp's ids again; its spelling of contractions is kept by our own writer.
  io::GgufFile again;
  again.path = "written";
  again.metadata = tokenizer.to_gguf();
  const Tokenizer back = Tokenizer::from_gguf(again);
  for (const Golden& wanted : read_golden(GetParam()))
    expect_ids(back, wanted, "tokenizer.json to GGUF");
}

INSTANTIATE_TEST_SUITE_P(Known, Vocabulary,
                         testing::Values("models/SmolLM2-135M-Instruct.Q4_1.gguf",
                                         "llama/src/models/ggml-vocab-gpt-2.gguf",
                                         "llama/src/models/ggml-vocab-llama-bpe.gguf",
                                         "llama/src/models/ggml-vocab-qwen2.gguf",
                                         "llama/src/models/ggml-vocab-llama-spm.gguf"),
                         [](const auto& info) {
                           std::string name = std::filesystem::path(info.param).stem().string();
                           for (char& c : name)
                             c = isalnum(static_cast<unsigned char>(c)) ? c : '_';
                           return name;
                         });

// One difference each from a plain tokenizer.json; see tests/oracle/tokenizer_variants.py.
TEST(TokenizerJson, VariantsGiveTheIdsAndTextOfTokenizers) {
  PACKLIGHT_NEEDS(test::oracle_python());
  const test::ScratchFolder folder;
  test::run_oracle("tokenizer_variants.py", folder.path().string());
  int variants = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    if (entry.path().extension() != ".json") continue;
    ++variants;
    const std::string name = entry.path().stem().string();
    const Tokenizer tokenizer = Tokenizer::from_hf(entry.path(), "");
    const test::ScratchFolder written;
    const std::filesystem::path json = written.path() / "tokenizer.json";
    std::ofstream(json) << tokenizer.to_tokenizer_json();
    const Tokenizer again = Tokenizer::from_hf(json, "");
    for (const bool parse_special : {false, true}) {
      std::ifstream file(folder.path() / (name + (parse_special ? ".1.ids" : ".0.ids")));
      std::vector<TokenId> want;
      for (TokenId id; file >> id;) want.push_back(id);
      ASSERT_FALSE(want.empty()) << name;
      const std::vector<TokenId> got =
          tokenizer.encode(test::awkward_text(), {true, parse_special});
      EXPECT_EQ(got, want) << name << ", parse_special " << parse_special;
      EXPECT_EQ(again.encode(test::awkward_text(), {true, parse_special}), want)
          << name << ", written again";
      StreamDecoder stream(tokenizer);
      std::string streamed;
      for (const TokenId id : got) streamed += stream.push(id);
      EXPECT_EQ(streamed + stream.finish(), tokenizer.decode(got)) << name;
    }
  }
  EXPECT_GE(variants, 30);
}

}  // namespace
}  // namespace packlight::text
