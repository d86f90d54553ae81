#pragma once

#include "text/tokenizer_data.h"

namespace packlight::text {

// SentencePiece joins two neighbours whenever the joined text is a token, the highest score first,
// the leftmost of equals. Writes that down as merge rules: every way to cut a piece in two symbols,
// ranked by the piece's score (equal scores, equal ranks). Fills data->merges and
// data->extra_characters from pieces and scores. Errors: Corrupt for a score that is not finite.
void derive_sentencepiece_merges(TokenizerData* data);

// The reverse, for a vocabulary with merge rules: scores with which the rules above give back the
// same merges in the same order, whatever cut they come from. Errors: Unsupported when no scores
// can.
std::vector<float> derive_sentencepiece_scores(const TokenizerData& data);

}  // namespace packlight::text
