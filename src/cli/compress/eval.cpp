#include "eval/perplexity.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <thread>

#include "base/fail.h"
#include "base/json.h"
#include "cli/compress/network_flags.h"
#include "cli/verbs.h"
#include "data/loader.h"
#include "eval/classification.h"
#include "eval/logit_source.h"
#include "exec/executor.h"
#include "io/hf_folder.h"

namespace packlight::cli {
namespace {

struct Arguments {
  std::string model, text, original, data, preprocess;
  int64_t context = 512, chunks = 0, samples = 0, batch_size = 0, blank = 0;
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

void print_task(const eval::TaskReport& r) {
  const auto line = [](const char* label, const std::optional<eval::Estimate>& e) {
    if (e) print_line(label, *e, 100, " %", 3);
  };
  line("top-1", r.top1);
  line("top-5", r.top5);
  line("sequences read", r.sequence_accuracy);
  if (r.mean_squared_error) print_line("mean squared error", *r.mean_squared_error, 1, "", 6);
  line("same as the original", r.agreement);
  line("same side of 0.5", r.same_side);
  if (r.output_difference) fmt::print("{:<22} {:.3e} of the original's outputs\n", "difference", *r.output_difference);
  fmt::print("{:<22} {}, {:.1f} s\n", "samples", r.samples, r.seconds);
}

// A network on labelled samples, or beside its original on any.
void run_network(const Arguments& arguments) {
  if (arguments.data.empty() || !arguments.text.empty()) {
    fail(ErrorCode::kInvalidArgument,
         "[eval] '{}' is a network: it is measured on samples (--data), not on a text",
         arguments.model);
  }
  const JudgedNetwork network(arguments.model, arguments.threads);
  std::optional<JudgedNetwork> original;
  if (!arguments.original.empty()) original.emplace(arguments.original, arguments.threads);
  const auto dataset = open_samples(
      network.graph(), arguments.data,
      arguments.original.empty() ? arguments.model : arguments.original, arguments.preprocess,
      std::nullopt, /*held_out=*/true);
  if (dataset->label_kind() == data::LabelKind::kNone && !original) {
    fail(ErrorCode::kInvalidArgument, "[eval] '{}' has no labels: give the original (--against) to compare with", arguments.data);
  }
  data::LoaderOptions loading = loading_for(network.graph(), *dataset, arguments.batch_size, 64);
  if (original && !loading.drop_last)
    loading = loading_for(original->graph(), *dataset, arguments.batch_size, 64);
  data::Loader loader(dataset, loading);
  eval::TaskOptions options;
  options.ctc_blank = arguments.blank;
  options.most_samples = arguments.samples;
  const eval::TaskReport report = eval::evaluate_task(
      network.subject(), original ? &original->subject() : nullptr, loader, options);
  if (arguments.json) {
    fmt::print("{}\n", task_json(report).dump(2));
  } else {
    print_task(report);
  }
}

void run(Arguments arguments) {
  if (arguments.threads <= 0) arguments.threads = std::max(1u, std::thread::hardware_concurrency());
  exec::initialise(arguments.threads);
  if (io::is_network(io::detect_model_kind(arguments.model))) return run_network(arguments);
  if (arguments.text.empty() || !arguments.data.empty()) {
    fail(ErrorCode::kInvalidArgument, "[eval] '{}' is a language model: it is measured on a text (--text)", arguments.model);
  }
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
  CLI::App* verb = app.add_subcommand("eval", "Measure a language model on a text, or a network on samples; how far either is from an original");
  verb->add_option("MODEL", arguments->model,
                   "GGUF file, Hugging Face folder, ONNX file, or package (.plk, of either), which "
                   "the runtime itself computes")
      ->required();
  verb->add_option("--text", arguments->text, "Language model: plain text, UTF-8");
  verb->add_option("--data", arguments->data,
                   "Network: folder with IDX files (MNIST: the test pair), .npy, .npz, folder of pictures, or a list of pictures; with or without labels");
  verb->add_option("--against", arguments->original,
                   "The original: adds perplexity ratio, KL divergence and top-1 agreement");
  verb->add_option("--ctx", arguments->context, "Tokens per chunk; the second half of each is scored")
      ->check(CLI::Range(int64_t{4}, int64_t{1} << 20))
      ->capture_default_str();
  verb->add_option("--chunks", arguments->chunks, "Chunks to evaluate; 0: the whole text")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_option("--preprocess", arguments->preprocess, "How pictures become inputs (default: MODEL with the extension .yaml)");
  verb->add_option("--samples", arguments->samples, "Samples to evaluate; 0: all")->check(CLI::NonNegativeNumber)->capture_default_str();
  verb->add_option("--batch-size", arguments->batch_size, "Samples that run together; 0: 64, or 1 where sizes are free")->check(CLI::NonNegativeNumber)->capture_default_str();
  verb->add_option("--blank", arguments->blank, "Class of a text recognizer that stands for nothing")->capture_default_str();
  verb->add_option("--threads", arguments->threads, "0: one per processor")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  verb->add_flag("--json", arguments->json, "Print JSON");
  verb->footer(
      "Examples:\n"
      "  packlight eval model.gguf --text wiki.txt --chunks 20\n"
      "  packlight eval small.plk --text wiki.txt --against model.gguf --json\n"
      "  packlight eval lenet5.onnx --data mnist/test.npz --against original.onnx\n"
      "  packlight eval lenet5.plk --data mnist/test.npz --against lenet5.onnx\n");
  verb->callback([arguments] { run(*arguments); });
}

}  // namespace packlight::cli
