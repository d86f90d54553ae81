#include "graph/expect_shape.h"
#include "graph/operator_rules.h"

namespace packlight::graph {
namespace {

enum Input : size_t { kX, kW, kR, kB, kSequenceLens, kInitialH, kInitialC, kP };

int64_t direction_count(const InferContext& context) {
  const std::string direction = context.node().text("direction", "forward");
  if (direction == "forward" || direction == "reverse") return 1;
  if (direction != "bidirectional") {
    context.contradiction("direction '{}' is none of forward, reverse, bidirectional", direction);
  }
  return 2;
}

Dim hidden_size(const InferContext& context) {
  Dim hidden;
  if (context.node().attributes.count("hidden_size") != 0) {
    const int64_t given = context.node().integer("hidden_size", 0);
    if (given <= 0) context.contradiction("hidden_size is {}", given);
    hidden = given;
  }
  merge_dim(context, kR, "R", 3, 2, hidden);
  return hidden;
}

// X [sequence, batch, input], or [batch, sequence, input] with layout 1, which swaps the first two
// dimensions of the states and moves batch to the front of Y, too.
template <int64_t kGates>
void infer_recurrent(InferContext& context) {
  const int64_t directions = direction_count(context);
  const bool batch_first = context.node().integer("layout", 0) != 0;
  const Dim hidden = hidden_size(context);
  Dim sequence, batch, input;
  merge_dim(context, kX, "X", 3, batch_first ? 1 : 0, sequence);
  merge_dim(context, kX, "X", 3, batch_first ? 0 : 1, batch);
  merge_dim(context, kX, "X", 3, 2, input);
  merge_dim(context, kW, "W", 3, 2, input);
  merge_dim(context, kSequenceLens, "sequence_lens", 1, 0, batch);
  for (const size_t state : {kInitialH, kInitialC})
    merge_dim(context, state, "the initial state", 3, batch_first ? 0 : 1, batch);

  const Shape state =
      batch_first ? Shape{batch, directions, hidden} : Shape{directions, batch, hidden};
  expect_shape(context, kW, "W", {directions, times(kGates, hidden), input});
  expect_shape(context, kR, "R", {directions, times(kGates, hidden), hidden});
  expect_shape(context, kB, "B", {directions, times(2 * kGates, hidden)});
  expect_shape(context, kInitialH, "initial_h", state);
  expect_shape(context, kInitialC, "initial_c", state);
  expect_shape(context, kP, "P", {directions, times(3, hidden)});

  context.set(0, context.type(0),
              batch_first ? Shape{batch, sequence, directions, hidden}
                          : Shape{sequence, directions, batch, hidden});
  context.set(1, context.type(0), state);
  context.set(2, context.type(0), state);
}

constexpr OperatorRule kRules[] = {
    {"LSTM", 3, 8, 0, 3, infer_recurrent<4>},
    {"GRU", 3, 6, 0, 2, infer_recurrent<3>},
    {"RNN", 3, 6, 0, 2, infer_recurrent<1>},
};

}  // namespace

std::span<const OperatorRule> recurrent_rules() { return kRules; }

}  // namespace packlight::graph
