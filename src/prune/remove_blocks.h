#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "exec/executor.h"
#include "import/import.h"

namespace packlight::prune {

// How much a language model would miss each of its blocks.
enum class BlockCriterion : uint8_t {
  kInfluence,   // 1 - mean cosine of the hidden state before and after it (Men et al.,
                // arXiv:2403.03853, ShortGPT)
  kPerplexity,  // what the mean loss of tokens that come next is without it, one block after the
                // other, those before being gone (Kim et al., arXiv:2402.02834)
  kRandom,      // the control
};
// "influence", "perplexity", "random". Errors: InvalidArgument naming the known ones.
BlockCriterion parse_block_criterion(std::string_view name);

struct BlockRemoval {
  int64_t layer = 0;  // as the whole model counts
  double score = 0;   // at the time it was chosen
};

// The model without those blocks: weights are shared, later layers count on from where the gap was.
// Errors: InvalidArgument for a layer that is not there, or all of them.
import::LanguageModel without_blocks(const import::LanguageModel& model,
                                     const std::vector<int64_t>& layers);

// Removes `count` blocks, those of the lowest score, in the order they were chosen. `batches`:
// tokens (calib::token_values()), may be empty for kRandom. kInfluence is measured once, of the
// whole model; kPerplexity costs a pass over the batches for each block that is left and each that
// goes. Errors: InvalidArgument for a count below 1 or that leaves no block.
std::vector<BlockRemoval> remove_blocks(import::LanguageModel& model, int64_t count,
                                        BlockCriterion criterion,
                                        const std::vector<exec::Values>& batches, uint64_t seed,
                                        bool quiet = false);

}  // namespace packlight::prune
