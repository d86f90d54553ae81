#include <fmt/format.h>
#include <ATen/ATen.h>

#include "base/fail.h"
#include "exec/operators.h"
#include "exec/recurrent_activation.h"

namespace packlight::exec {
namespace {

using Outputs = std::vector<at::Tensor>;
enum Input : size_t { kX, kW, kR, kB, kSequenceLens, kInitialH, kInitialC, kP };

struct State {
  at::Tensor h, c;  // [batch, hidden]; c of LSTM only
};

// One direction of a recurrent operator.
struct Layer {
  at::Tensor w, r;            // [gates * hidden, input], [gates * hidden, hidden]
  at::Tensor w_bias, r_bias;  // [gates * hidden]; undefined when there is no B
  at::Tensor peephole;        // [3 * hidden], or undefined
  std::span<const RecurrentActivation> activations;
  State initial;
  bool reverse = false;
  bool linear_before_reset = false;  // GRU
  bool input_forget = false;         // LSTM: the forget gate is one minus the input gate
};

// One time step. input: X_t W^T + Wb of this step, [batch, gates * hidden].
using Step = State (*)(const Layer& layer, const at::Tensor& input, const State& before);

struct Kind {
  int64_t gates;
  std::vector<std::string_view> activations;
  Step step;
  bool has_cell = false;
};

State rnn_step(const Layer& layer, const at::Tensor& input, const State& before) {
  return {layer.activations[0](input + at::linear(before.h, layer.r, layer.r_bias)), {}};
}

// Gates z, r, h.
State gru_step(const Layer& layer, const at::Tensor& input, const State& before) {
  const int64_t hidden = before.h.size(1);
  const auto& f = layer.activations[0];
  const auto& g = layer.activations[1];
  const auto rows = [&](const at::Tensor& x, int64_t begin, int64_t count) {
    return x.defined() ? x.narrow(0, begin * hidden, count * hidden) : x;
  };
  const at::Tensor recurrent = at::linear(before.h, rows(layer.r, 0, 2), rows(layer.r_bias, 0, 2));
  const at::Tensor gates = f(input.narrow(1, 0, 2 * hidden) + recurrent);
  const at::Tensor z = gates.narrow(1, 0, hidden), r = gates.narrow(1, hidden, hidden);
  const at::Tensor rh = rows(layer.r, 2, 1), rh_bias = rows(layer.r_bias, 2, 1);
  const at::Tensor reset = layer.linear_before_reset ? r * at::linear(before.h, rh, rh_bias)
                                                     : at::linear(r * before.h, rh, rh_bias);
  const at::Tensor h = g(input.narrow(1, 2 * hidden, hidden) + reset);
  return {(1 - z) * h + z * before.h, {}};
}

// Gates i, o, f, c; peepholes i, o, f.
State lstm_step(const Layer& layer, const at::Tensor& input, const State& before) {
  const int64_t hidden = before.h.size(1);
  const auto& f = layer.activations[0];
  const auto& g = layer.activations[1];
  RecurrentActivation h = layer.activations[2];
  h.clip = 0;  // what is bounded are the sums of the gates, as in ONNX Runtime; not the cell
  const at::Tensor gates = input + at::linear(before.h, layer.r, layer.r_bias);
  const auto gate = [&](int64_t index, const at::Tensor& cell) {
    const at::Tensor sum = gates.narrow(1, index * hidden, hidden);
    if (!layer.peephole.defined() || !cell.defined()) return sum;
    return sum + layer.peephole.narrow(0, index * hidden, hidden) * cell;
  };
  const at::Tensor i = f(gate(0, before.c));
  const at::Tensor forget = layer.input_forget ? 1 - i : f(gate(2, before.c));
  const at::Tensor c = forget * before.c + i * g(gate(3, {}));
  const at::Tensor o = f(gate(1, c));
  return {o * h(c), c};
}

void expect_sizes(const Call& call, size_t input, const char* name, at::IntArrayRef wanted) {
  if (!call.has(input) || call.inputs[input].sizes() == wanted) return;
  const auto sizes = call.inputs[input].sizes();
  fail(ErrorCode::kInvalidArgument, "{} is {}, not {}", name,
       fmt::join(sizes.begin(), sizes.end(), "x"), fmt::join(wanted.begin(), wanted.end(), "x"));
}

// Sizes of a call; X and states with time, or direction, first.
struct Sizes {
  int64_t sequence, batch, input, hidden, directions;
};

Sizes checked_sizes(const Call& call, const Kind& kind, bool batch_first) {
  const at::Tensor &x = call.inputs[kX], &r = call.inputs[kR];
  if (x.dim() != 3 || r.dim() != 3)
    fail(ErrorCode::kInvalidArgument, "X and R have ranks {} and {}, not 3", x.dim(), r.dim());
  const std::string direction = call.node.text("direction", "forward");
  if (direction != "forward" && direction != "reverse" && direction != "bidirectional")
    fail(ErrorCode::kInvalidArgument, "unknown direction '{}'", direction);
  Sizes s{x.size(batch_first ? 1 : 0), x.size(batch_first ? 0 : 1), x.size(2), r.size(2),
          direction == "bidirectional" ? 2 : 1};
  if (const int64_t given = call.node.integer("hidden_size", s.hidden); given != s.hidden)
    fail(ErrorCode::kInvalidArgument, "hidden_size {}, but R is for {}", given, s.hidden);
  const int64_t rows = kind.gates * s.hidden;
  expect_sizes(call, kW, "W", {s.directions, rows, s.input});
  expect_sizes(call, kR, "R", {s.directions, rows, s.hidden});
  expect_sizes(call, kB, "B", {s.directions, 2 * rows});
  expect_sizes(call, kSequenceLens, "sequence_lens", {s.batch});
  expect_sizes(call, kP, "P", {s.directions, 3 * s.hidden});
  std::vector<int64_t> state{s.directions, s.batch, s.hidden};
  if (batch_first) std::swap(state[0], state[1]);
  expect_sizes(call, kInitialH, "initial_h", state);
  expect_sizes(call, kInitialC, "initial_c", state);
  return s;
}

Layer make_layer(const Call& call, const Sizes& sizes, bool batch_first, int64_t direction,
                 const Kind& kind) {
  const auto part = [&](size_t input) {
    return call.has(input) ? call.inputs[input][direction] : at::Tensor();
  };
  const auto state = [&](size_t input) {
    if (!call.has(input)) return at::zeros({sizes.batch, sizes.hidden}, call.inputs[kX].options());
    return call.inputs[input].select(batch_first ? 1 : 0, direction);
  };
  Layer layer;
  layer.w = part(kW);
  layer.r = part(kR);
  if (const at::Tensor bias = part(kB); bias.defined()) {
    layer.w_bias = bias.narrow(0, 0, kind.gates * sizes.hidden);
    layer.r_bias = bias.narrow(0, kind.gates * sizes.hidden, kind.gates * sizes.hidden);
  }
  layer.peephole = part(kP);
  layer.initial.h = state(kInitialH);
  if (kind.has_cell) layer.initial.c = state(kInitialC);
  layer.reverse = direction == 1 || call.node.text("direction", "forward") == "reverse";
  layer.linear_before_reset = call.node.integer("linear_before_reset", 0) != 0;
  layer.input_forget = call.node.integer("input_forget", 0) != 0;
  return layer;
}

// x: [sequence, batch, input]; active: [sequence, batch, 1] Bool, or undefined. Returns Y
// [sequence, batch, hidden] and leaves the last state in `state`. A sequence that has ended keeps
// its state and gives zeros; backwards, its padding comes first and leaves the initial state as it
// is, so that nothing needs to be turned round.
at::Tensor run_layer(const Layer& layer, Step step, const at::Tensor& x, const at::Tensor& active,
                     State& state) {
  state = layer.initial;
  const int64_t sequence = x.size(0);
  if (sequence == 0) return at::zeros({0, x.size(1), layer.r.size(1)}, x.options());
  const at::Tensor inputs = at::linear(x, layer.w, layer.w_bias);
  std::vector<at::Tensor> outputs(sequence);
  for (int64_t i = 0; i < sequence; ++i) {
    const int64_t t = layer.reverse ? sequence - 1 - i : i;
    State next = step(layer, inputs[t], state);
    outputs[t] = next.h;
    if (active.defined()) {
      outputs[t] = at::where(active[t], next.h, at::zeros_like(next.h));
      next.h = at::where(active[t], next.h, state.h);
      if (next.c.defined()) next.c = at::where(active[t], next.c, state.c);
    }
    state = std::move(next);
  }
  return at::stack(outputs);
}

at::Tensor active_steps(const Call& call, const Sizes& sizes) {
  if (!call.has(kSequenceLens)) return {};
  for (const int64_t length : integers(call.inputs[kSequenceLens])) {
    if (length < 0 || length > sizes.sequence) {
      fail(ErrorCode::kInvalidArgument, "sequence length {} is outside [0, {}]", length,
           sizes.sequence);
    }
  }
  const at::Tensor lengths = call.inputs[kSequenceLens].to(at::kLong).view({1, -1, 1});
  return at::arange(sizes.sequence, at::kLong).view({-1, 1, 1}) < lengths;
}

Outputs recurrent(const Call& call, const Kind& kind) {
  const bool batch_first = call.node.integer("layout", 0) != 0;
  const Sizes sizes = checked_sizes(call, kind, batch_first);
  const auto activations = recurrent_activations(call.node, kind.activations, sizes.directions);
  const at::Tensor x = batch_first ? call.inputs[kX].transpose(0, 1) : call.inputs[kX];
  const at::Tensor active = active_steps(call, sizes);
  std::vector<at::Tensor> y, h, c;
  for (int64_t direction = 0; direction < sizes.directions; ++direction) {
    Layer layer = make_layer(call, sizes, batch_first, direction, kind);
    const size_t each = kind.activations.size();
    layer.activations = std::span(activations).subspan(direction * each, each);
    State last;
    y.push_back(run_layer(layer, kind.step, x, active, last));
    h.push_back(last.h);
    if (kind.has_cell) c.push_back(last.c);
  }
  const int64_t state_dim = batch_first ? 1 : 0;  // of the directions
  Outputs out{at::stack(y, 1),
              at::stack(h, state_dim)};  // Y: [sequence, directions, batch, hidden]
  if (batch_first) out[0] = out[0].permute({2, 0, 1, 3});
  if (kind.has_cell) out.push_back(at::stack(c, state_dim));
  return out;
}

Outputs lstm(const Call& call) {
  return recurrent(call, {4, {"Sigmoid", "Tanh", "Tanh"}, lstm_step, true});
}
Outputs gru(const Call& call) { return recurrent(call, {3, {"Sigmoid", "Tanh"}, gru_step}); }
Outputs rnn(const Call& call) { return recurrent(call, {1, {"Tanh"}, rnn_step}); }

constexpr OperatorEntry kOperators[] = {{"LSTM", lstm}, {"GRU", gru}, {"RNN", rnn}};

}  // namespace

std::span<const OperatorEntry> recurrent_operators() { return kOperators; }

}  // namespace packlight::exec
