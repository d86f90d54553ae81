#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/decoder.h"

namespace packlight::runtime {

// The rows (tokens) that a phase of a forward pass works on.
struct BatchRows {
  std::vector<int32_t> sequence;
  std::vector<int32_t> first,
      end;                      // positions seen: [first, end); the row's own position is end - 1
  std::vector<int32_t> source;  // index of the row's token in the call
  std::vector<int64_t> cost;    // [rows + 1] work of attention up to each row, per query head
  // Neighbouring rows of one sequence.
  struct Run {
    int64_t begin, end;
  };
  std::vector<Run> runs;
  std::vector<int32_t> run;  // of each row

  int64_t size() const { return static_cast<int64_t>(sequence.size()); }
  void clear();
  void add(int32_t sequence, int32_t first, int32_t end, int32_t source);
};

// One call of Decoder::forward(): every token, and those whose logits are wanted.
struct Batch {
  std::vector<int32_t> ids;
  BatchRows all, wanted;

  // lengths: positions held by each sequence. Tokens must have been checked.
  void assign(std::span<const DecoderToken> tokens, std::span<const int64_t> lengths,
              int64_t sliding_window);
};

}  // namespace packlight::runtime
