#include "eval/perplexity.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <thread>

#include "base/fail.h"
#include "base/json.h"
#include "cli/verbs.h"
#include "eval/logit_source.h"
#include "exec/executor.h"
#include "io/hf_folder.h"

namespace packlight::cli {
namespace {

struct Arguments {
  std::string model, text, original;
  int64_t context = 512, chunks = 0;
  int threads = 0;
  bool json = false;
};

// A model from any format, ready to give logits: a package runs in the runtime, anything else as a graph.
struct Subject {
  std::unique_ptr<import::LanguageModel> model;
  std::optional<text::Tokenizer> tokenizer;
  std::unique_ptr<eval::LogitSource> source;
};

uint64_t physical_memory_bytes() {
  return static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGE_SIZE));
}

Subject load(const std::string& path, const Arguments& arguments) {
  Subject subject;
  if (io::detect_model_kind(path) == io::ModelKind::kPackage) {
    auto package = std::make_shared<const io::Package>(io::Package::open(path));
    const std::span<const std::byte> blob = package->blob("tokenizer");
    if (!blob.empty()) subject.tokenizer = text::Tokenizer::from_blob(blob, package->owner(), path);
    subject.source = eval::package_source(std::move(package), arguments.context, arguments.threads);
  } else {
    subject.model = std::make_unique<import::LanguageModel>(import::load_language_model(path));
    subject.tokenizer = subject.model->tokenizer;
    // Two models may be held at once; a quarter each leaves half of the memory for everything else.
    subject.source = eval::graph_source(*subject.model, physical_memory_bytes() / 4);
  }
  if (!subject.tokenizer) {
    fail(ErrorCode::kNotFound, "[eval] '{}' holds no tokenizer: a text cannot be evaluated without one", path);
  }
  return subject;
}

void check_same_tokens(const std::vector<text::TokenId>& tokens, const std::vector<text::TokenId>& original) {
  const auto [a, b] = std::mismatch(tokens.begin(), tokens.end(), original.begin(), original.end());
  if (a == tokens.end() && b == original.end()) return;
  fail(ErrorCode::kInvalidArgument,
       "[eval] the vocabularies differ: from token {} on, the model and the original split the text differently",
       a - tokens.begin());
}

void put(Json& out, const std::string& key, const eval::Estimate& e) {
  out[key] = e.value;
  out[key + "_se"] = e.standard_error;
}

Json to_json(const eval::PerplexityReport& r) {
  Json out;
  put(out, "perplexity", r.perplexity);
  if (r.kl_divergence) {
    put(out, "base_perplexity", *r.base_perplexity);
    put(out, "perplexity_ratio", *r.perplexity_ratio);
    put(out, "kl_divergence", *r.kl_divergence);
    put(out, "top1_agreement", *r.top1_agreement);
  }
  out["tokens"] = r.tokens;
  out["scored_tokens"] = r.scored_tokens;
  out["chunks"] = r.chunks;
  out["tokens_per_second"] = static_cast<double>(r.tokens) / r.model_seconds;
  out["seconds"] = r.seconds;
  return out;
}

void print_line(const char* label, const eval::Estimate& e, double scale, const char* unit, int digits) {
  fmt::print("{:<22} {:.{}f} ± {:.{}f}{}\n", label, e.value * scale, digits, e.standard_error * scale, digits, unit);
}

void print_text(const eval::PerplexityReport& r) {
  print_line("perplexity", r.perplexity, 1, "", 4);
  if (r.kl_divergence) {
    print_line("original's perplexity", *r.base_perplexity, 1, "", 4);
    print_line("ratio", *r.perplexity_ratio, 1, "", 5);
    print_line("KL divergence", *r.kl_divergence, 1, " nats", 5);
    print_line("same most likely token", *r.top1_agreement, 100, " %", 2);
  }
  fmt::print("{:<22} {} in {} chunks, {} predictions scored, {:.0f} tokens/s\n", "tokens", r.tokens, r.chunks,
             r.scored_tokens, static_cast<double>(r.tokens) / r.model_seconds);
}

void run(Arguments arguments) {
  if (arguments.threads <= 0) arguments.threads = std::max(1u, std::thread::hardware_concurrency());
  exec::initialise(arguments.threads);
  const Subject subject = load(arguments.model, arguments);
  const std::vector<text::TokenId> tokens = eval::tokens_of_file(arguments.text, *subject.tokenizer);
  Subject original;
  if (!arguments.original.empty()) {
    original = load(arguments.original, arguments);
    check_same_tokens(tokens, eval::tokens_of_file(arguments.text, *original.tokenizer));
  }
  const eval::PerplexityOptions options{.context = arguments.context,
                                        .chunks = arguments.chunks,
                                        .bos = subject.tokenizer->adds_bos() ? subject.tokenizer->bos() : -1,
                                        .threads = arguments.threads};
  const eval::PerplexityReport report =
      eval::measure_perplexity(*subject.source, original.source.get(), tokens, options);
  if (arguments.json) {
    fmt::print("{}\n", to_json(report).dump(2));
  } else {
    print_text(report);
  }
}

}  // namespace

void add_eval(CLI::App& app) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* verb = app.add_subcommand("eval", "Measure a language model on a text: perplexity, distance to an original");
  verb->add_option("MODEL", arguments->model,
                   "GGUF file, Hugging Face folder, or package (.plk), which the runtime itself computes")
      ->required();
  verb->add_option("--text", arguments->text, "Plain text, UTF-8")->required();
  verb->add_option("--against", arguments->original,
                   "The original: adds perplexity ratio, KL divergence and top-1 agreement");
  verb->add_option("--ctx", arguments->context, "Tokens per chunk; the second half of each is scored")
      ->check(CLI::Range(int64_t{4}, int64_t{1} << 20))
      ->capture_default_str();
  verb->add_option("--chunks", arguments->chunks, "Chunks to evaluate; 0: the whole text")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_option("--threads", arguments->threads, "0: one per processor")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  verb->add_flag("--json", arguments->json, "Print JSON");
  verb->footer(
      "Examples:\n"
      "  packlight eval model.gguf --text wiki.txt --chunks 20\n"
      "  packlight eval small.plk --text wiki.txt --against model.gguf --json\n");
  verb->callback([arguments] { run(*arguments); });
}

}  // namespace packlight::cli
