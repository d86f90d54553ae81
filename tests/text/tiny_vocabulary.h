#pragma once

#include <string>
#include <utility>
#include <vector>

#include "io/gguf.h"

namespace packlight::test {

using GgufEntries = std::vector<std::pair<std::string, io::GgufValue>>;

// A GGUF in memory with nothing but these keys.
inline io::GgufFile gguf_of(GgufEntries entries) {
  io::GgufFile file;
  file.path = "tiny.gguf";
  file.metadata = std::move(entries);
  return file;
}

// Byte-level BPE over the letters a to e and the space: ab, abc, de, " a"; <s> and </s> are control
// tokens, <u> is the user's.
inline GgufEntries tiny_byte_level() {
  const std::vector<std::string> tokens = {"a",   "b",  "c",       "d",   "e",    "\u0120", "ab",
                                           "abc", "de", "\u0120a", "<s>", "</s>", "<u>"};
  return {
      {"tokenizer.ggml.model", {std::string("gpt2")}},
      {"tokenizer.ggml.pre", {std::string("gpt-2")}},
      {"tokenizer.ggml.tokens", {tokens}},
      {"tokenizer.ggml.token_type", {std::vector<int32_t>{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 4}}},
      {"tokenizer.ggml.merges", {std::vector<std::string>{"d e", "a b", "ab c", "\u0120 a"}}},
      {"tokenizer.ggml.bos_token_id", {uint32_t{10}}},
      {"tokenizer.ggml.eos_token_id", {uint32_t{11}}}};
}

// SentencePiece: <unk> <s> </s>, the 256 bytes, then pieces and their scores.
inline GgufEntries tiny_sentencepiece(const std::vector<std::pair<std::string, float>>& pieces) {
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<int32_t> types = {2, 3, 3};
  std::vector<float> scores = {0, 0, 0};
  for (int byte = 0; byte < 256; ++byte) {
    constexpr char kHex[] = "0123456789ABCDEF";
    tokens.push_back(std::string("<0x") + kHex[byte / 16] + kHex[byte % 16] + ">");
    types.push_back(6);
    scores.push_back(0);
  }
  for (const auto& [piece, score] : pieces) {
    tokens.push_back(piece);
    types.push_back(1);
    scores.push_back(score);
  }
  return {{"tokenizer.ggml.model", {std::string("llama")}},
          {"tokenizer.ggml.tokens", {tokens}},
          {"tokenizer.ggml.token_type", {types}},
          {"tokenizer.ggml.scores", {scores}}};
}
// Id of the first piece after the special tokens and the bytes.
inline constexpr int32_t kFirstPiece = 259;

}  // namespace packlight::test
