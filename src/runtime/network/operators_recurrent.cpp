#include <algorithm>
#include <array>

#include "runtime/network/operator.h"
#include "runtime/network/recurrent_activation.h"
#include "runtime/network/row_products.h"

namespace packlight::runtime {
namespace {

using codec::DType;
enum Input : size_t { kX, kW, kR, kB, kSequenceLens, kInitialH, kInitialC, kP };

// Multiplications below which a second thread costs more than it saves.
constexpr int64_t kGrainProducts = 32768;
// Floats of gate sums that are made of X at a time.
constexpr int64_t kChunkFloats = 1 << 18;

constexpr std::string_view kLstmActivations[] = {"Sigmoid", "Tanh", "Tanh"};
constexpr std::string_view kGruActivations[] = {"Sigmoid", "Tanh"};
constexpr std::string_view kRnnActivations[] = {"Tanh"};

// Sizes of a call.
struct Sizes {
  int64_t sequence = 0, batch = 0, input = 0, hidden = 0, directions = 1;
  bool batch_first = false;

  int64_t state() const { return batch * hidden; }
};

// One direction of a recurrent operator.
struct Layer {
  const RunCall& call;
  const Sizes& sizes;
  int64_t gates;
  const float *w, *r;                                // [gates * hidden, input or hidden]
  const float *w_bias = nullptr, *r_bias = nullptr;  // [gates * hidden]
  const float* peephole = nullptr;                   // [3 * hidden]
  const RecurrentActivation* activations = nullptr;
  bool reverse = false;
  bool linear_before_reset = false;  // GRU
  bool input_forget = false;         // LSTM: the forget gate is one minus the input gate

  int64_t width() const { return gates * sizes.hidden; }
};

// What is before a step and after it, [batch, hidden]; c of LSTM only.
struct State {
  std::vector<float> h, c;
};

// One time step. sums: X_t W^T and the biases that are added to it, [batch, gates * hidden]; may be
// written to. scratch: [batch, hidden].
using Step = void (*)(const Layer& layer, float* sums, const State& before, State& after,
                      std::vector<float>& scratch);

struct Kind {
  int64_t gates;
  std::span<const std::string_view> activations;
  Step step;
  bool has_cell = false;
};

// sums[i * width + first + j] += a_i . w_j for j in [0, count).
template <class RowOf>
void add_products(const Layer& layer, int64_t rows, const RowOf& row_of, const float* w,
                  int64_t first, int64_t count, int64_t n, float* sums) {
  const int64_t width = layer.width();
  const int64_t grain = kGrainProducts / std::clamp<int64_t>(rows * n, 1, kGrainProducts);
  layer.call.parallel(count, grain, [&](int64_t begin, int64_t end) {
    row_products(
        rows, row_of, begin, end, [&](int64_t j) { return w + j * n; }, n,
        [&](int64_t i, int64_t j, float dot) { sums[i * width + first + j] += dot; });
  });
}

// Adds `state` times rows [first, first + count) of R.
void add_recurrent(const Layer& layer, const std::vector<float>& state, int64_t first,
                   int64_t count, float* sums) {
  const int64_t hidden = layer.sizes.hidden;
  add_products(
      layer, layer.sizes.batch, [&](int64_t b) { return state.data() + b * hidden; },
      layer.r + first * hidden, first, count, hidden, sums);
}

void rnn_step(const Layer& layer, float* sums, const State& before, State& after,
              std::vector<float>&) {
  add_recurrent(layer, before.h, 0, layer.width(), sums);
  for (int64_t i = 0; i < layer.sizes.state(); ++i) after.h[i] = layer.activations[0](sums[i]);
}

// Gates z, r, h.
void gru_step(const Layer& layer, float* sums, const State& before, State& after,
              std::vector<float>& scratch) {
  const int64_t hidden = layer.sizes.hidden, batch = layer.sizes.batch;
  const auto &f = layer.activations[0], &g = layer.activations[1];
  add_recurrent(layer, before.h, 0, 2 * hidden, sums);
  for (int64_t b = 0; b < batch; ++b) {
    float *gates = sums + b * 3 * hidden, *keep = scratch.data() + b * hidden;
    for (int64_t i = 0; i < 2 * hidden; ++i) gates[i] = f(gates[i]);
    const float *reset = gates + hidden, *h = before.h.data() + b * hidden;
    if (layer.linear_before_reset) {  // what comes from X waits, while its place takes H R^T + Rb
      std::copy_n(gates + 2 * hidden, hidden, keep);
      for (int64_t i = 0; i < hidden; ++i)
        gates[2 * hidden + i] = layer.r_bias == nullptr ? 0 : layer.r_bias[2 * hidden + i];
    } else {
      for (int64_t i = 0; i < hidden; ++i) keep[i] = reset[i] * h[i];
    }
  }
  add_recurrent(layer, layer.linear_before_reset ? before.h : scratch, 2 * hidden, hidden, sums);
  for (int64_t b = 0; b < batch; ++b) {
    const float *z = sums + b * 3 * hidden, *reset = z + hidden, *sum = z + 2 * hidden;
    for (int64_t i = 0; i < hidden; ++i) {
      const int64_t at = b * hidden + i;
      const float h = g(layer.linear_before_reset ? scratch[at] + reset[i] * sum[i] : sum[i]);
      after.h[at] = (1 - z[i]) * h + z[i] * before.h[at];
    }
  }
}

// Gates i, o, f, c; peepholes i, o, f.
void lstm_step(const Layer& layer, float* sums, const State& before, State& after,
               std::vector<float>&) {
  const int64_t hidden = layer.sizes.hidden;
  const auto &f = layer.activations[0], &g = layer.activations[1];
  RecurrentActivation h = layer.activations[2];
  h.clip = 0;  // what is bounded are the sums of the gates, as in ONNX Runtime; not the cell
  add_recurrent(layer, before.h, 0, 4 * hidden, sums);
  const auto peep = [&](int64_t gate, int64_t i, float cell) {
    return layer.peephole == nullptr ? 0 : layer.peephole[gate * hidden + i] * cell;
  };
  for (int64_t b = 0; b < layer.sizes.batch; ++b) {
    const float* gates = sums + b * 4 * hidden;
    for (int64_t i = 0; i < hidden; ++i) {
      const int64_t at = b * hidden + i;
      const float cell = before.c[at];
      const float in = f(gates[i] + peep(0, i, cell));
      const float forget =
          layer.input_forget ? 1 - in : f(gates[2 * hidden + i] + peep(2, i, cell));
      const float next = forget * cell + in * g(gates[3 * hidden + i]);
      after.c[at] = next;
      after.h[at] = f(gates[hidden + i] + peep(1, i, next)) * h(next);
    }
  }
}

constexpr Kind kLstm{4, kLstmActivations, lstm_step, true};
constexpr Kind kGru{3, kGruActivations, gru_step};
constexpr Kind kRnn{1, kRnnActivations, rnn_step};

void expect_dims(const OperatorCall& call, size_t input, const char* name,
                 const std::vector<int64_t>& wanted) {
  if (!call.has(input)) return;
  const Tensor& tensor = call.input(input);
  if (tensor.dtype != DType::kF32 || tensor.packed != nullptr)
    call.refuse("{} is not dense F32", name);
  if (tensor.dims != wanted)
    call.refuse("{} is {}, not {}", name, to_string(tensor.dims), to_string(wanted));
}

void check_lengths(const OperatorCall& call, const Sizes& sizes) {
  if (!call.has(kSequenceLens)) return;
  const Tensor& lengths = call.input(kSequenceLens);
  if (lengths.dtype != DType::kI32 && lengths.dtype != DType::kI64)
    call.refuse("sequence_lens is {}, not I32", codec::info(lengths.dtype).name);
  if (lengths.dims != std::vector<int64_t>{sizes.batch})
    call.refuse("sequence_lens is {}, not [{}]", to_string(lengths.dims), sizes.batch);
}

Sizes checked_sizes(const OperatorCall& call, const Kind& kind) {
  const Tensor &x = call.input(kX), &r = call.input(kR);
  if (x.rank() != 3 || r.rank() != 3)
    call.refuse("X and R have ranks {} and {}, not 3", x.rank(), r.rank());
  const std::string direction = call.node.text("direction", "forward");
  if (direction != "forward" && direction != "reverse" && direction != "bidirectional")
    call.refuse("unknown direction '{}'", direction);
  const bool batch_first = call.node.integer("layout", 0) != 0;
  const Sizes s{x.dims[batch_first ? 1 : 0],
                x.dims[batch_first ? 0 : 1],
                x.dims[2],
                r.dims[2],
                direction == "bidirectional" ? 2 : 1,
                batch_first};
  if (const int64_t given = call.node.integer("hidden_size", s.hidden); given != s.hidden)
    call.refuse("hidden_size {}, but R is for {}", given, s.hidden);
  if (s.hidden > INT32_MAX) call.refuse("hidden_size {} is too large", s.hidden);
  const int64_t rows = kind.gates * s.hidden;
  expect_dims(call, kX, "X", x.dims);
  call.input(kW);  // must be there
  expect_dims(call, kW, "W", {s.directions, rows, s.input});
  expect_dims(call, kR, "R", {s.directions, rows, s.hidden});
  expect_dims(call, kB, "B", {s.directions, 2 * rows});
  expect_dims(call, kP, "P", {s.directions, 3 * s.hidden});
  std::vector<int64_t> state{s.directions, s.batch, s.hidden};
  if (batch_first) std::swap(state[0], state[1]);
  expect_dims(call, kInitialH, "initial_h", state);
  expect_dims(call, kInitialC, "initial_c", state);
  check_lengths(call, s);
  return s;
}

template <const Kind& kind>
bool recurrent_shape(const ShapeCall& call) {
  const Sizes s = checked_sizes(call, kind);
  recurrent_activations(call, kind.activations, s.directions);
  std::vector<int64_t> state{s.directions, s.batch, s.hidden};
  if (s.batch_first) std::swap(state[0], state[1]);
  call.set(0, DType::kF32,
           s.batch_first ? std::vector<int64_t>{s.batch, s.sequence, s.directions, s.hidden}
                         : std::vector<int64_t>{s.sequence, s.directions, s.batch, s.hidden});
  call.set(1, DType::kF32, state);
  if (kind.has_cell) call.set(2, DType::kF32, state);
  return true;
}

Layer make_layer(const RunCall& call, const Sizes& sizes, int64_t direction, const Kind& kind) {
  const auto part = [&](size_t input) -> const float* {
    if (!call.has(input)) return nullptr;
    const Tensor& tensor = call.input(input);
    return tensor.as<float>() + direction * (tensor.elements() / sizes.directions);
  };
  Layer layer{call, sizes, kind.gates, part(kW), part(kR)};
  layer.w_bias = part(kB);
  if (layer.w_bias != nullptr) layer.r_bias = layer.w_bias + layer.width();
  if (kind.has_cell) layer.peephole = part(kP);
  layer.reverse = direction == 1 || call.node.text("direction", "forward") == "reverse";
  layer.linear_before_reset = call.node.integer("linear_before_reset", 0) != 0;
  layer.input_forget = call.node.integer("input_forget", 0) != 0;
  return layer;
}

// Where the state of a direction and a member of the batch is in a tensor of states.
int64_t state_offset(const Sizes& s, int64_t direction, int64_t b) {
  return (s.batch_first ? b * s.directions + direction : direction * s.batch + b) * s.hidden;
}

std::vector<float> initial_state(const RunCall& call, const Sizes& s, int64_t direction,
                                 size_t input) {
  std::vector<float> state(s.state());
  for (int64_t b = 0; call.has(input) && b < s.batch; ++b) {
    std::copy_n(call.input(input).as<float>() + state_offset(s, direction, b), s.hidden,
                state.data() + b * s.hidden);
  }
  return state;
}

// X_t W^T + Wb + Rb of the steps [first, first + steps): [steps, batch, gates * hidden]. Without
// the recurrent bias of GRU's h when the reset gate multiplies it.
void input_sums(const Layer& layer, int64_t first, int64_t steps, float* sums) {
  const Sizes& s = layer.sizes;
  const int64_t width = layer.width(), rows = steps * s.batch;
  std::fill_n(sums, rows * width, 0.0f);
  const int64_t whole = layer.linear_before_reset && layer.gates == 3 ? 2 * s.hidden : width;
  for (int64_t i = 0; layer.w_bias != nullptr && i < rows; ++i) {
    std::copy_n(layer.w_bias, width, sums + i * width);
    for (int64_t j = 0; j < whole; ++j) sums[i * width + j] += layer.r_bias[j];
  }
  const float* x = layer.call.input(kX).as<float>();
  const auto row_of = [&](int64_t i) {
    const int64_t t = first + i / s.batch, b = i % s.batch;
    return x + (s.batch_first ? b * s.sequence + t : t * s.batch + b) * s.input;
  };
  add_products(layer, rows, row_of, layer.w, 0, width, s.input, sums);
}

// Writes step t of Y. A sequence that has ended keeps its state and gives zeros; backwards, its
// padding comes first and leaves the initial state as it is, so that nothing needs to be turned
// round.
void finish_step(const Layer& layer, int64_t direction, int64_t t, std::span<const int64_t> lengths,
                 const State& before, State& after) {
  const Sizes& s = layer.sizes;
  float* y = layer.call.wants(0) ? layer.call.output(0).as<float>() : nullptr;
  for (int64_t b = 0; b < s.batch; ++b) {
    const int64_t at = b * s.hidden;
    const bool ended = !lengths.empty() && t >= lengths[b];
    if (ended) {
      std::copy_n(before.h.data() + at, s.hidden, after.h.data() + at);
      if (!before.c.empty()) std::copy_n(before.c.data() + at, s.hidden, after.c.data() + at);
    }
    if (y == nullptr) continue;
    float* to = y + (s.batch_first ? (b * s.sequence + t) * s.directions + direction
                                   : (t * s.directions + direction) * s.batch + b) *
                        s.hidden;
    if (ended) {
      std::fill_n(to, s.hidden, 0.0f);
    } else {
      std::copy_n(after.h.data() + at, s.hidden, to);
    }
  }
}

// Runs all steps of a direction and returns the last state.
State run_layer(const Layer& layer, Step step, int64_t direction, std::span<const int64_t> lengths,
                State state) {
  const Sizes& s = layer.sizes;
  const int64_t step_floats = s.batch * layer.width();
  const int64_t chunk =
      std::clamp<int64_t>(kChunkFloats / std::max<int64_t>(1, step_floats), 1, 1024);
  std::vector<float> sums(std::min(chunk, s.sequence) * step_floats), scratch(s.state());
  State next = state;
  for (int64_t done = 0; done < s.sequence; done += chunk) {
    const int64_t steps = std::min(chunk, s.sequence - done);
    const int64_t first = layer.reverse ? s.sequence - done - steps : done;
    input_sums(layer, first, steps, sums.data());
    for (int64_t i = 0; i < steps; ++i) {
      const int64_t k = layer.reverse ? steps - 1 - i : i;
      step(layer, sums.data() + k * step_floats, state, next, scratch);
      finish_step(layer, direction, first + k, lengths, state, next);
      std::swap(state, next);
    }
  }
  return state;
}

std::vector<int64_t> sequence_lengths(const RunCall& call, const Sizes& s) {
  if (!call.has(kSequenceLens)) return {};
  std::vector<int64_t> lengths = integers_of(call.input(kSequenceLens));
  for (const int64_t length : lengths) {
    if (length < 0 || length > s.sequence)
      call.refuse("sequence length {} is outside [0, {}]", length, s.sequence);
  }
  return lengths;
}

void store_state(const RunCall& call, const Sizes& s, int64_t direction, size_t output,
                 const std::vector<float>& state) {
  if (!call.wants(output)) return;
  for (int64_t b = 0; b < s.batch; ++b) {
    std::copy_n(state.data() + b * s.hidden, s.hidden,
                call.output(output).as<float>() + state_offset(s, direction, b));
  }
}

template <const Kind& kind>
void recurrent_run(const RunCall& call) {
  const Sizes sizes = checked_sizes(call, kind);
  if (sizes.state() == 0) return;  // nothing to write
  const auto activations = recurrent_activations(call, kind.activations, sizes.directions);
  const std::vector<int64_t> lengths = sequence_lengths(call, sizes);
  for (int64_t direction = 0; direction < sizes.directions; ++direction) {
    Layer layer = make_layer(call, sizes, direction, kind);
    layer.activations = activations.data() + direction * kind.activations.size();
    State state{initial_state(call, sizes, direction, kInitialH), {}};
    if (kind.has_cell) state.c = initial_state(call, sizes, direction, kInitialC);
    state = run_layer(layer, kind.step, direction, lengths, std::move(state));
    store_state(call, sizes, direction, 1, state.h);
    if (kind.has_cell) store_state(call, sizes, direction, 2, state.c);
  }
}

constexpr Operator kOperators[] = {
    {"LSTM", recurrent_shape<kLstm>, recurrent_run<kLstm>},
    {"GRU", recurrent_shape<kGru>, recurrent_run<kGru>},
    {"RNN", recurrent_shape<kRnn>, recurrent_run<kRnn>},
};

}  // namespace

std::span<const Operator> recurrent_operators() { return kOperators; }

}  // namespace packlight::runtime
