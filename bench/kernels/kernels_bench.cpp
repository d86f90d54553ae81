// Speed of every kernel table at the shapes of SmolLM2-135M, one thread. Rates are per second of
// processor time.
//   kernels_bench --benchmark_filter=avx512vnni --benchmark_repetitions=5
// Decode reads matrices in turn that together exceed the last-level cache, so GB/s is what memory
// gives. Each answer is compared with the scalar table's before it is timed.

#include <benchmark/benchmark.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "codec/half.h"
#include "codec/tile.h"
#include "kernels/kernels.h"

namespace packlight::kernels {
namespace {

constexpr uint64_t kBeyondCaches = 96 << 20;

struct Format {
  const char* name;
  int bits;       // 16: F16
  int64_t group;  // 0: whole row
  bool symmetric;
};

constexpr Format kInt4G32 = {"int4_g32", 4, 32, true};
constexpr Format kFormats[] = {kInt4G32,
                               {"int4_g128", 4, 128, true},
                               {"int4_g32_asym", 4, 32, false},
                               {"int8_row", 8, 0, true},
                               {"f16", 16, 0, true}};

codec::EncodedTensor weights(const Format& format, int64_t rows, int64_t cols, unsigned seed) {
  std::mt19937 rng(seed);
  if (format.bits == 16) {
    std::vector<float> values(rows * cols);
    for (float& v : values) v = static_cast<float>(rng() % 2001) / 1000 - 1;
    return codec::pack_f16(values, rows, cols);
  }
  codec::QuantizedMatrix m;
  m.rows = rows;
  m.cols = cols;
  m.bits = format.bits;
  m.group_size = format.group == 0 ? cols : format.group;
  const int low = format.bits == 8 ? -127 : format.symmetric ? -8 : 0;
  const int count = format.bits == 8 ? 255 : 16;
  for (int64_t i = 0; i < rows * cols; ++i)
    m.codes.push_back(static_cast<int8_t>(low + static_cast<int>(rng() % count)));
  for (int64_t i = 0; i < rows * m.groups_per_row(); ++i) {
    m.scales.push_back(codec::f32_to_f16(0.01f + static_cast<float>(rng() % 100) / 10000));
    if (!format.symmetric) m.zeros.push_back(rng() % 16);
  }
  return codec::pack(m);
}

codec::EncodedTensor copy_of(const codec::EncodedTensor& from) {
  auto bytes = std::make_shared<std::vector<std::byte>>(from.size_bytes() + 64);
  codec::EncodedTensor to = from;
  auto* at =
      reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(bytes->data()) + 63) / 64 * 64);
  const auto place = [&](std::span<const std::byte>& part) {
    if (!part.empty()) std::memcpy(at, part.data(), part.size());
    part = {at, part.size()};
    at += part.size();
  };
  place(to.data);
  place(to.scales);
  if (!from.symmetric()) place(to.zeros);
  to.owner = bytes;
  return to;
}

// x as floats and as INT8.
struct Input {
  std::vector<float> x, scale;
  std::vector<int8_t> q;
  std::vector<int32_t> sum;
  ActivationsInt8 view;

  Input(int64_t tokens, int64_t cols) {
    std::mt19937 rng(1);
    for (int64_t i = 0; i < tokens * cols; ++i)
      x.push_back(static_cast<float>(rng() % 2001) / 1000 - 1);
    q.resize(tokens * cols);
    scale.resize(tokens * cols / 32);
    sum.resize(tokens * cols / 32);
    view.tokens = tokens;
    view.padded_cols = cols;
    view.q = q.data();
    view.scale = scale.data();
    view.sum = sum.data();
    for (int64_t t = 0; t < tokens; ++t)
      available().back()->quantize_activations(x.data() + t * cols, cols, t, view);
  }
};

bool close(const std::vector<float>& got, const std::vector<float>& want) {
  for (size_t i = 0; i < got.size(); ++i) {
    if (!(std::abs(got[i] - want[i]) <= 1e-3f * (1 + std::abs(want[i])))) return false;
  }
  return true;
}

void linear(benchmark::State& state, const Kernels& isa, const Format& format, int64_t rows,
            int64_t cols, int64_t tokens, bool int8_activations) {
  std::vector<codec::EncodedTensor> matrices = {weights(format, rows, cols, 1)};
  const uint64_t bytes = matrices[0].size_bytes();
  while (tokens <= 8 && matrices.size() * bytes < kBeyondCaches)
    matrices.push_back(copy_of(matrices[0]));
  const Input input(tokens, cols);
  std::vector<float> y(tokens * rows), want(tokens * rows);
  const auto run = [&](const Kernels& k, const codec::EncodedTensor& w, int64_t tile1,
                       std::vector<float>& out) {
    if (int8_activations)
      k.linear_a8(w, input.view, 0, tile1, out.data(), rows);
    else
      k.linear_f32(w, input.x.data(), tokens, cols, 0, tile1, out.data(), rows);
  };
  run(*available().back(), matrices[0], 2, want);
  run(isa, matrices[0], 2, y);
  if (!close(y, want)) return state.SkipWithError("the answer differs from the scalar table's");
  size_t next = 0;
  for (auto _ : state) {
    run(isa, matrices[next], codec::row_tiles(rows), y);
    next = (next + 1) % matrices.size();
    benchmark::ClobberMemory();
  }
  using benchmark::Counter;
  const double runs = static_cast<double>(state.iterations());
  state.counters["GB/s"] = Counter(runs * static_cast<double>(bytes) * 1e-9, Counter::kIsRate);
  state.counters["GMAC/s"] =
      Counter(runs * static_cast<double>(rows * cols * tokens) * 1e-9, Counter::kIsRate);
}

// 3 query heads on one KV head of 64. Prefill: all rows of `positions` tokens, causal. Decode: one
// token's rows.
void attention(benchmark::State& state, const Kernels& isa, bool prefill, KvType type,
               int64_t positions) {
  constexpr int64_t kDim = 64, kHeads = 3;
  const int64_t n_q = prefill ? kHeads * positions : kHeads;
  const int64_t caches =
      prefill ? 1
              : std::max<int64_t>(1, static_cast<int64_t>(kBeyondCaches) / (positions * kDim * 4));
  std::mt19937 rng(1);
  std::vector<float> q(n_q * kDim), out(n_q * kDim), want(n_q * kDim), scale(positions, 0.01f);
  for (float& v : q) v = static_cast<float>(rng() % 2001) / 1000 - 1;
  std::vector<uint16_t> k(caches * positions * kDim), v(k.size());
  for (uint16_t& x : k) x = codec::f32_to_f16(static_cast<float>(rng() % 2001) / 1000 - 1);
  for (uint16_t& x : v) x = codec::f32_to_f16(static_cast<float>(rng() % 2001) / 1000 - 1);
  std::vector<int64_t> offset(n_q);
  std::vector<int32_t> first(n_q, 0), end(n_q);
  for (int64_t i = 0; i < n_q; ++i) {
    offset[i] = i * kDim;
    end[i] = static_cast<int32_t>(prefill ? i / kHeads + 1 : positions);
  }
  std::vector<float> scratch(attention_scratch_floats(n_q, kDim));
  const auto run = [&](const Kernels& table, int64_t cache, std::vector<float>& to) {
    const int64_t at = cache * positions * kDim;
    KvView kv;
    kv.type = type;
    kv.head_dim = kv.position_stride = kDim;
    kv.k = k.data() + at;
    kv.v = v.data() + at;
    kv.k_scale = kv.v_scale = scale.data();
    table.attention(q.data(), to.data(), offset.data(), first.data(), end.data(), n_q, kv, 0.125f,
                    scratch.data());
  };
  run(*available().back(), 0, want);
  run(isa, 0, out);
  if (!close(out, want)) return state.SkipWithError("the answer differs from the scalar table's");
  int64_t next = 0;
  for (auto _ : state) {
    run(isa, next, out);
    next = (next + 1) % caches;
    benchmark::ClobberMemory();
  }
  double seen = 0;
  for (int64_t i = 0; i < n_q; ++i) seen += end[i];
  using benchmark::Counter;
  const double runs = static_cast<double>(state.iterations());
  const double bytes = static_cast<double>(2 * positions * kDim * (type == KvType::kF16 ? 2 : 1));
  state.counters["GB/s"] = Counter(runs * bytes * 1e-9, Counter::kIsRate);
  state.counters["GMAC/s"] = Counter(runs * seen * 2 * kDim * 1e-9, Counter::kIsRate);
}

void elementwise(benchmark::State& state,
                 const std::function<void(std::vector<float>&, std::vector<float>&)>& run) {
  std::vector<float> a(1536, 0.5f), b(1536, 0.25f);
  for (auto _ : state) {
    run(a, b);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * 1536);
}

template <class Run>
void add(const Kernels& isa, const std::string& name, const Run& run) {
  benchmark::RegisterBenchmark((std::string(isa.name) + "/" + name).c_str(), run);
}

void add_all(const Kernels& isa) {
  for (const Format& format : kFormats) {
    for (const int64_t tokens : {1, 4, 8, 512}) {
      const std::string tail =
          std::string(format.name) + "/1536x576/tokens:" + std::to_string(tokens);
      if (format.bits != 16) {
        add(isa, "linear_a8/" + tail,
            [=, &isa](auto& s) { linear(s, isa, format, 1536, 576, tokens, true); });
      }
      add(isa, "linear_f32/" + tail,
          [=, &isa](auto& s) { linear(s, isa, format, 1536, 576, tokens, false); });
    }
  }
  for (const auto& [rows, cols] :
       {std::pair<int64_t, int64_t>{576, 576}, {192, 576}, {576, 1536}}) {
    for (const int64_t tokens : {1, 512}) {
      const std::string shape =
          std::to_string(rows) + "x" + std::to_string(cols) + "/tokens:" + std::to_string(tokens);
      add(isa, "linear_a8/int4_g32/" + shape, [=, &isa, rows = rows, cols = cols](auto& s) {
        linear(s, isa, kInt4G32, rows, cols, tokens, true);
      });
    }
  }
  for (const KvType type : {KvType::kF16, KvType::kInt8}) {
    const std::string cache = type == KvType::kF16 ? "f16" : "int8";
    add(isa, "attention/prefill:512/" + cache,
        [=, &isa](auto& s) { attention(s, isa, true, type, 512); });
    add(isa, "attention/decode:2048/" + cache,
        [=, &isa](auto& s) { attention(s, isa, false, type, 2048); });
  }
  static Input quantized(1, 1536);
  static std::vector<uint16_t> half(1536);
  using Vector = std::vector<float>;
  add(isa, "rms_norm", [&isa](auto& s) {
    elementwise(
        s, [&](Vector& a, Vector& b) { isa.rms_norm(a.data(), b.data(), 1536, 1e-5f, b.data()); });
  });
  add(isa, "silu_mul", [&isa](auto& s) {
    elementwise(s, [&](Vector& a, Vector& b) { isa.silu_mul(a.data(), b.data(), 1536); });
  });
  add(isa, "quantize_activations", [&isa](auto& s) {
    elementwise(s, [&](Vector& a, Vector&) {
      isa.quantize_activations(a.data(), 1536, 0, quantized.view);
    });
  });
  add(isa, "store_f16", [&isa](auto& s) {
    elementwise(s, [&](Vector& a, Vector&) { isa.store_f16(a.data(), 1536, half.data()); });
  });
}

}  // namespace
}  // namespace packlight::kernels

int main(int argc, char** argv) {
  for (const auto* isa : packlight::kernels::available()) packlight::kernels::add_all(*isa);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
