#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "base/fail.h"
#include "base/interrupt.h"
#include "base/json.h"
#include "base/progress.h"
#include "cli/bench_samples.h"
#include "cli/option_scope.h"
#include "cli/peak_memory.h"
#include "cli/verbs.h"
#include "io/hf_folder.h"
#include "io/package.h"
#include "runtime/decoder.h"
#include "runtime/read_bandwidth.h"
#include "runtime/sampler.h"

namespace packlight::cli {
namespace {

struct BenchFlags {
  std::string model, kv = "f16";
  int64_t prompt = 512, decode = 128;
  int batch = 1, threads = 0, repetitions = 5;
  std::vector<std::string> input_shapes;
  bool json = false, profile = false;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

class Bench {
 public:
  Bench(std::shared_ptr<const io::Package> package, const BenchFlags& flags)
      : flags_(flags), decoder_(std::move(package), options(flags)), random_(1) {}

  // Tokens/s of a prompt, run from an empty context in pieces; only the last token's logits are
  // made.
  double prefill() {
    reset();
    const std::vector<int32_t> ids = random_ids(flags_.prompt);
    const auto start = std::chrono::steady_clock::now();
    for (int64_t at = 0; at < flags_.prompt; at += kPiece) {
      const int64_t end = std::min(flags_.prompt, at + kPiece);
      tokens_.clear();
      for (int64_t i = at; i < end; ++i) tokens_.push_back({ids[i], 0, i + 1 == flags_.prompt});
      base::check_interrupt();
      decoder_.forward(tokens_);
    }
    return static_cast<double>(flags_.prompt) / seconds_since(start);
  }

  // Tokens/s of `batch` sequences decoded together from an empty context, the next token chosen
  // greedily.
  double decode() {
    reset();
    std::vector<int32_t> next = random_ids(flags_.batch);
    const size_t vocab = decoder_.config().vocab_size;
    const auto start = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < flags_.decode; ++i) {
      tokens_.clear();
      for (int s = 0; s < flags_.batch; ++s) tokens_.push_back({next[s], s, true});
      base::check_interrupt();
      const std::span<const float> logits = decoder_.forward(tokens_);
      for (int s = 0; s < flags_.batch; ++s)
        next[s] = runtime::argmax(logits.subspan(s * vocab, vocab));
    }
    return static_cast<double>(flags_.decode * flags_.batch) / seconds_since(start);
  }

  // Read for one decoded token: its share of the weights, and the keys and values of the mean
  // context.
  double bytes_per_token() const {
    const runtime::DecoderOptions& o = decoder_.options();
    const double position = static_cast<double>(decoder_.kv_cache_bytes()) /
                            static_cast<double>(o.context * o.sequences);
    const double mean_context = (static_cast<double>(flags_.decode) + 1) / 2;
    return static_cast<double>(decoder_.weight_bytes_per_token()) / flags_.batch +
           position * mean_context;
  }

  runtime::Decoder& decoder() { return decoder_; }

 private:
  static constexpr int64_t kPiece = 512;

  static runtime::DecoderOptions options(const BenchFlags& flags) {
    runtime::DecoderOptions o;
    o.threads = flags.threads;
    o.context = std::max<int64_t>({flags.prompt, flags.decode, 1});
    o.sequences = flags.batch;
    o.kv = flags.kv == "q8" ? kernels::KvType::kInt8 : kernels::KvType::kF16;
    o.max_batch_tokens =
        std::max<int64_t>(std::clamp<int64_t>(flags.prompt, 1, kPiece), flags.batch);
    return o;
  }

  void reset() {
    base::check_interrupt();
    for (int s = 0; s < flags_.batch; ++s) decoder_.truncate(s, 0);
  }

  std::vector<int32_t> random_ids(int64_t count) {
    std::vector<int32_t> ids(count);
    for (int32_t& id : ids)
      id = static_cast<int32_t>(random_.next() % decoder_.config().vocab_size);
    return ids;
  }

  BenchFlags flags_;
  runtime::Decoder decoder_;
  runtime::Random random_;
  std::vector<runtime::DecoderToken> tokens_;
};

struct Results {
  Samples prefill, decode, bandwidth;
  double bytes_per_token = 0, peak_rss = 0;
  int threads = 0;
  uint64_t package_bytes = 0, weight_bytes = 0, kv_bytes = 0;
};

Results measure(const BenchFlags& flags, io::ModelKind kind) {
  if (kind != io::ModelKind::kPackage) {
    fail(ErrorCode::kUnsupported,
         "[bench] {} is of the kind {}; bench runs packages: make one with 'packlight {}'", flags.model,
         io::model_kind_name(kind),
         kind == io::ModelKind::kOnnx
             ? fmt::format("export {} --format plk -o network.plk", flags.model)
             : fmt::format("quantize {} -o model.plk --scheme w4a8 --group-size 32", flags.model));
  }
  auto package = std::make_shared<const io::Package>(io::Package::open(flags.model));
  const int64_t positions = package->config().max_positions, longest = std::max(flags.prompt, flags.decode);
  if (positions > 0 && longest > positions) {
    fail(ErrorCode::kInvalidArgument, "[bench] {} tokens, but '{}' has {} positions", longest, flags.model, positions);
  }
  Bench bench(package, flags);
  base::Progress progress("Measuring", flags.repetitions + 1);
  const auto once = [&](Results& r) {
    if (flags.prompt > 0) r.prefill.values.push_back(bench.prefill());
    if (flags.decode > 0) r.decode.values.push_back(bench.decode());
    progress.advance();
  };
  Results warm_up, results;
  once(warm_up);
  results.peak_rss = peak_rss_mb();  // before the bandwidth buffer
  // Everything is measured in turns, so that a machine whose speed drifts slows all of it alike.
  runtime::ReadBandwidth bandwidth(bench.decoder().pool());
  bandwidth.bytes_per_second();
  for (int i = 0; i < flags.repetitions; ++i) {
    once(results);
    results.bandwidth.values.push_back(bandwidth.bytes_per_second());
  }
  results.bytes_per_token = bench.bytes_per_token();
  results.threads = bench.decoder().options().threads;
  results.package_bytes = package->size_bytes();
  results.weight_bytes = bench.decoder().weight_bytes_per_token();
  results.kv_bytes = bench.decoder().kv_cache_bytes();
  return results;
}

void print(const BenchFlags& flags, const Results& r) {
  const double share = r.bytes_per_token * r.decode.median() / r.bandwidth.median();
  if (flags.json) {
    Json json;
    json["model"] = flags.model;
    json["prompt_tokens"] = flags.prompt;
    json["decode_tokens"] = flags.decode;
    json["batch"] = flags.batch;
    json["kv"] = flags.kv;
    json["threads"] = r.threads;
    json["isa"] = kernels::active().name;
    json["repetitions"] = flags.repetitions;
    add_samples(json, "prefill_tok_s", r.prefill, 1);
    add_samples(json, "decode_tok_s", r.decode, 1);
    json["bytes_per_token"] = r.bytes_per_token;
    add_samples(json, "read_bandwidth_gb_s", r.bandwidth, 1e9);
    json["bandwidth_share"] = share;
    json["peak_rss_mb"] = r.peak_rss;
    json["package_mb"] = static_cast<double>(r.package_bytes) / 1e6;
    json["kv_cache_mb"] = static_cast<double>(r.kv_bytes) / 1e6;
    json["weight_bytes_per_token"] = r.weight_bytes;
    std::puts(json.dump().c_str());
    return;
  }
  std::printf("kernels            %s, %d threads\n", std::string(kernels::active().name).c_str(),
              r.threads);
  if (flags.prompt > 0) {
    std::printf("prefill %-10lld %.1f tokens/s (%.1f to %.1f)\n",
                static_cast<long long>(flags.prompt), r.prefill.median(), r.prefill.min(),
                r.prefill.max());
  }
  if (flags.decode > 0) {
    std::printf("decode %-4lld x %-4d %.1f tokens/s (%.1f to %.1f)\n",
                static_cast<long long>(flags.decode), flags.batch, r.decode.median(),
                r.decode.min(), r.decode.max());
    std::printf("read per token     %.2f MB\n", r.bytes_per_token / 1e6);
  }
  std::printf("read bandwidth     %.2f GB/s (%.2f to %.2f)\n", r.bandwidth.median() / 1e9,
              r.bandwidth.min() / 1e9, r.bandwidth.max() / 1e9);
  if (flags.decode > 0) std::printf("share reached      %.1f %%\n", share * 100);
  std::printf("peak resident      %.1f MB (package %.1f MB, key-value cache %.1f MB)\n", r.peak_rss,
              static_cast<double>(r.package_bytes) / 1e6, static_cast<double>(r.kv_bytes) / 1e6);
}

}  // namespace

void add_bench(CLI::App& app) {
  auto flags = std::make_shared<BenchFlags>();
  CLI::App* verb =
      app.add_subcommand("bench",
                         "Measure the speed of a package (.plk): of a language model's "
                         "prefill and decoding, or of a network");
  OptionScope decoder("a language model's"), network("a network's");
  verb->add_option("model", flags->model, "Package to measure")->required()->type_name("MODEL.plk");
  decoder.add(verb->add_option("-p,--prompt-tokens", flags->prompt, "Tokens of the prompt; 0: no prefill")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 24))
      ->capture_default_str());
  decoder.add(verb->add_option("-n,--decode-tokens", flags->decode,
                   "Tokens decoded from an empty context; 0: no decoding")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 24))
      ->capture_default_str());
  decoder.add(verb->add_option("--batch", flags->batch, "Sequences decoded together")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str());
  decoder.add(verb->add_option("--kv", flags->kv, "Key-value cache: f16 or q8")
      ->check(CLI::IsMember({"f16", "q8"}))
      ->capture_default_str());
  verb->add_option("--threads", flags->threads, "Threads; 0: one per processor")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_option("--repetitions", flags->repetitions,
                   "Repetitions after the warm-up; the median is reported")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  network.add(verb->add_option(
      "--input-shape", flags->input_shapes,
      "NAME=1,3,48,320 for inputs whose size varies; inputs are random"));
  network.add(verb->add_flag("--profile", flags->profile,
                             "Time of each operator and node, from runs of their own"));
  verb->add_flag("--json", flags->json,
                 "One JSON object; speeds are medians, beside them the smallest and largest");
  verb->footer(
      "Prefill and decoding each start from an empty context. The read bandwidth is measured in "
      "the same run with the same\n"
      "threads.\n"
      "Examples:\n"
      "  packlight bench model.plk\n"
      "  packlight bench model.plk -p 0 -n 128 --batch 4 --json\n"
      "  packlight bench network.plk --input-shape 1,3,48,320 --threads 2 --profile");
  verb->callback([flags, decoder, network] {
    const io::ModelKind kind = io::detect_model_kind(flags->model);
    if (kind == io::ModelKind::kNetworkPackage) {
      decoder.expect_none("bench", flags->model, "a network");
      return bench_network({flags->model, flags->input_shapes, flags->threads, flags->repetitions,
                            flags->profile, flags->json});
    }
    network.expect_none("bench", flags->model, "a language model");
    print(*flags, measure(*flags, kind));
  });
}

}  // namespace packlight::cli
