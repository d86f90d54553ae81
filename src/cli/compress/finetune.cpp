#include <ATen/ATen.h>
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <set>
#include <thread>

#include "base/fail.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/progress.h"
#include "calib/calibration_tokens.h"
#include "cli/compress/language_model_output.h"
#include "cli/compress/output.h"
#include "cli/peak_memory.h"
#include "cli/verbs.h"
#include "eval/perplexity.h"
#include "exec/executor.h"
#include "graph/weight.h"
#include "io/package.h"
#include "train/low_rank.h"
#include "train/trainer.h"

namespace packlight::cli {
namespace {

struct FinetuneFlags {
  std::string model, text, validation, output, checkpoint;
  int64_t tokens = 1 << 20, context = 512, batch = 4, rank = 0, seed = 0, validate_every = 0,
          validation_chunks = 8;
  std::optional<double> learning_rate;
  double alpha = 0, weight_decay = 0, clip = 1, warmup = 0.03;
  std::vector<std::string> targets;
  bool restart = false, json = false;
  int threads = 0;
};

constexpr std::chrono::seconds kCheckpointEvery{300};
constexpr int64_t kWholeText = int64_t{1} << 40;
constexpr double kFullRate = 2e-4, kLowRankRate = 1e-3;

// All encoded weights as F32: training changes them.
void make_dense(graph::Graph& graph) {
  for (graph::ValueId id = 0; id < static_cast<graph::ValueId>(graph.values().size()); ++id) {
    graph::Value& value = graph.value(id);
    if (!value.weight || !graph::is_float(graph::weight_type(*value.weight))) continue;
    value.weight = exec::dense_weight(*value.weight);
    value.type = graph::ElementType::kF32;
  }
}

// The weights that a file of the model has; others, like rotary frequencies, belong to its
// architecture.
std::vector<train::Parameter> stored_parameters(const import::LanguageModel& model) {
  std::set<std::string> names;
  for (const io::TensorSpec& spec : io::decoder_tensors(model.config)) names.insert(spec.name);
  std::vector<train::Parameter> parameters = train::find_parameters(model.graph);
  std::erase_if(parameters, [&](const train::Parameter& p) { return !names.contains(p.name); });
  return parameters;
}

class Finetuning {
 public:
  explicit Finetuning(const FinetuneFlags& flags)
      : flags_(flags), model_(import::load_language_model(flags.model)), trained_(model_) {
    if (!model_.tokenizer)
      fail(ErrorCode::kUnsupported, "[finetune] '{}': the model has no tokenizer", flags.model);
    read_text();
    if (flags.rank > 0) {
      adapters_ = train::add_adapters(trained_.graph, low_rank_options());
    } else {
      make_dense(trained_.graph);
    }
    trainer_ = std::make_unique<train::Trainer>(
        trained_.graph, options(),
        adapters_.empty() ? stored_parameters(trained_)
                          : train::adapter_parameters(trained_.graph, adapters_));
    if (!flags.validation.empty())
      held_out_ = eval::tokens_of_file(flags.validation, *model_.tokenizer);
  }

  Json run() {
    resume();
    const auto start = std::chrono::steady_clock::now();
    if (trainer_->steps_done() == 0) validate();
    try {
      train();
    } catch (const Error& error) {
      if (error.code() == ErrorCode::kInterrupted) {
        const base::FinishDespiteInterrupt finish;
        train::save_checkpoint(flags_.checkpoint, *trainer_, identity());
        std::fprintf(stderr, "The same command goes on from '%s'.\n", flags_.checkpoint.c_str());
      }
      throw;
    }
    const base::FinishDespiteInterrupt finish;
    trainer_->store();
    if (adapters_.empty()) {
      model_.graph = trained_.graph;
    } else {
      train::merge_adapters(trained_.graph, adapters_, model_.graph);
    }
    write_language_model(model_, flags_.output);
    std::error_code error;
    std::filesystem::remove(flags_.checkpoint, error);
    return {{"output", flags_.output},
            {"steps", trainer_->steps_done()},
            {"tokens", tokens_seen()},
            {"tokens_in_text", static_cast<int64_t>(text_.tokens.ids.size())},
            {"curve", curve_},
            {"seconds",
             std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()},
            {"peak_rss_mb", peak_rss_mb()}};
  }

 private:
  void read_text() {
    text_ = calib::tokens_from_text(flags_.text, *model_.tokenizer, kWholeText, flags_.context);
    const auto ids = static_cast<int64_t>(text_.tokens.ids.size());
    windows_ = ids / flags_.context;  // the last, shorter one is left out
    if (windows_ < 1)
      fail(ErrorCode::kInvalidArgument,
           "[finetune] '{}' has {} tokens, fewer than one window of {} (--ctx)", flags_.text, ids,
           flags_.context);
    steps_ = std::max<int64_t>(1, flags_.tokens / (flags_.context * flags_.batch));
  }

  train::LowRankOptions low_rank_options() const {
    train::LowRankOptions low;
    low.rank = flags_.rank;
    low.alpha = flags_.alpha > 0 ? flags_.alpha : 2.0 * static_cast<double>(flags_.rank);
    low.targets = flags_.targets;
    low.seed = static_cast<uint64_t>(flags_.seed);
    return low;
  }

  double rate() const {
    return flags_.learning_rate.value_or(flags_.rank > 0 ? kLowRankRate : kFullRate);
  }

  train::TrainOptions options() const {
    train::TrainOptions options;
    options.loss.kind = train::LossKind::kNextToken;
    options.optimizer.kind = train::OptimizerOptions::Kind::kAdamW;
    options.optimizer.weight_decay = flags_.weight_decay;
    options.schedule.kind = train::Schedule::Kind::kCosine;
    options.schedule.peak = rate();
    options.schedule.total_steps = steps_;
    options.schedule.warmup_steps =
        static_cast<int64_t>(flags_.warmup * static_cast<double>(steps_));
    options.schedule.final_fraction = 0.1;
    options.accumulate = flags_.batch;
    options.clip_norm = flags_.clip;
    options.recompute = true;
    options.seed = static_cast<uint64_t>(flags_.seed);
    return options;
  }

  int64_t tokens_seen() const { return trainer_->batches_seen() * flags_.context; }

  std::string identity() const {
    const auto hash = [](const std::string& path) {
      if (std::filesystem::is_directory(path)) return std::string("folder");
      return base::hex64(base::hash64(base::MappedFile::open(path)->bytes()));
    };
    return Json{{"model", flags_.model},     {"model_hash", hash(flags_.model)},
                {"text_hash", text_.hash},   {"tokens", flags_.tokens},
                {"ctx", flags_.context},     {"batch", flags_.batch},
                {"lora", flags_.rank},       {"alpha", flags_.alpha},
                {"targets", flags_.targets}, {"seed", flags_.seed},
                {"learning_rate", rate()},   {"weight_decay", flags_.weight_decay},
                {"clip_norm", flags_.clip},  {"warmup", flags_.warmup}}
        .dump();
  }

  void resume() {
    std::error_code error;
    if (flags_.restart || !std::filesystem::exists(flags_.checkpoint, error)) return;
    const train::Checkpoint checkpoint = train::load_checkpoint(flags_.checkpoint);
    if (checkpoint.identity != identity()) {
      fail(ErrorCode::kInvalidArgument,
           "[finetune] '{}' is the checkpoint of another run (--restart begins anew): it was {}, "
           "this is {}",
           flags_.checkpoint, checkpoint.identity, identity());
    }
    trainer_->restore(checkpoint.state);
    std::fprintf(stderr, "Going on from '%s': %lld tokens are done.\n", flags_.checkpoint.c_str(),
                 static_cast<long long>(tokens_seen()));
  }

  // Window `index` of the whole run: every pass over the text has an order of its own.
  train::Batch window(int64_t index) {
    const int64_t pass = index / windows_;
    if (pass != pass_) {
      order_.resize(windows_);
      std::iota(order_.begin(), order_.end(), int64_t{0});
      std::mt19937_64 random(static_cast<uint64_t>(flags_.seed) * 1000003 +
                             static_cast<uint64_t>(pass));
      for (int64_t i = windows_ - 1; i > 0; --i)
        std::swap(order_[i], order_[random() % static_cast<uint64_t>(i + 1)]);
      pass_ = pass;
    }
    const int64_t first = order_[index % windows_] * flags_.context;
    std::vector<int64_t> ids(text_.tokens.ids.begin() + first,
                             text_.tokens.ids.begin() + first + flags_.context);
    const at::Tensor tokens = at::tensor(ids, at::kLong).unsqueeze(0);
    train::Batch batch;
    batch.inputs["input_ids"] = tokens;
    batch.inputs["position_ids"] = at::arange(flags_.context, at::kLong).unsqueeze(0);
    batch.target.values = tokens;
    return batch;
  }

  void train() {
    const int64_t all = steps_ * flags_.batch;
    base::Progress progress("Fine-tuning", all);
    for (int64_t i = 0; i < trainer_->batches_seen(); ++i) progress.advance();
    auto saved = std::chrono::steady_clock::now();
    const int64_t every = flags_.validate_every / flags_.context;
    while (trainer_->batches_seen() < all) {
      trainer_->train_on(window(trainer_->batches_seen()));
      progress.advance();
      const bool whole = trainer_->batches_seen() % flags_.batch == 0;
      if (whole && std::chrono::steady_clock::now() - saved > kCheckpointEvery) {
        train::save_checkpoint(flags_.checkpoint, *trainer_, identity());
        saved = std::chrono::steady_clock::now();
      }
      if (trainer_->batches_seen() == all || (every > 0 && trainer_->batches_seen() % every == 0))
        validate();
    }
  }

  // A point of the curve: the loss of training since the last, and what the held-out text says.
  void validate() {
    Json point = {{"tokens", tokens_seen()}};
    if (trainer_->batches_seen() > 0) point["loss"] = trainer_->mean_loss();
    trainer_->start_mean();
    if (!held_out_.empty()) {
      trainer_->store();
      eval::PerplexityOptions options;
      options.context = flags_.context;
      options.chunks = flags_.validation_chunks;
      options.bos = model_.tokenizer->adds_bos() ? model_.tokenizer->bos() : -1;
      options.threads = flags_.threads;
      const auto source = eval::graph_source(trained_, uint64_t{4} << 30);
      point["perplexity"] =
          eval::measure_perplexity(*source, nullptr, held_out_, options).perplexity.value;
    }
    std::fprintf(stderr, "%lld tokens: %s\n", static_cast<long long>(tokens_seen()),
                 point.dump().c_str());
    curve_.push_back(std::move(point));
  }

  const FinetuneFlags& flags_;
  import::LanguageModel model_, trained_;
  calib::TextTokens text_;
  int64_t windows_ = 0, steps_ = 0, pass_ = -1;
  std::vector<int64_t> order_;
  std::vector<train::Adapter> adapters_;
  std::unique_ptr<train::Trainer> trainer_;
  std::vector<text::TokenId> held_out_;
  Json curve_ = Json::array();
};

void finetune_verb(FinetuneFlags flags) {
  if (flags.threads <= 0)
    flags.threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  exec::initialise(flags.threads);
  check_language_model_output(flags.output, "finetune");
  check_output(flags.model, flags.output);
  if (flags.checkpoint.empty()) flags.checkpoint = flags.output + ".checkpoint";
  check_output_folder(flags.checkpoint);
  const Json json = Finetuning(flags).run();
  if (flags.json) {
    fmt::print("{}\n", json.dump(2));
  } else {
    fmt::print("{}: {} tokens in {} steps, {:.0f} s, peak memory {:.0f} MB\n", flags.output,
               json["tokens"].dump(), json["steps"].dump(), json["seconds"].get<double>(),
               json["peak_rss_mb"].get<double>());
  }
}

void add_rates(CLI::App& verb, FinetuneFlags& flags) {
  verb.add_option("--lr", flags.learning_rate,
                  "learning rate after warm-up (default: 2e-4, with --lora 1e-3)")
      ->check(CLI::PositiveNumber);
  verb.add_option("--warmup", flags.warmup, "share of the run that the rate rises over")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  verb.add_option("--weight-decay", flags.weight_decay, "of matrices")->capture_default_str();
  verb.add_option("--clip", flags.clip, "largest norm of the gradients; 0: none")
      ->capture_default_str();
}

}  // namespace

void add_finetune(CLI::App& app) {
  auto flags = std::make_shared<FinetuneFlags>();
  CLI::App* verb = app.add_subcommand(
      "finetune", "Train a language model further on text, whole or through low-rank adapters");
  verb->add_option("MODEL", flags->model, "GGUF file or Hugging Face folder")->required();
  verb->add_option("--text", flags->text, "UTF-8 text; at most its first 32 MB")->required();
  verb->add_option("-o,--output", flags->output,
                   "a .gguf file or a Hugging Face folder (any other name)")
      ->required();
  verb->add_option("--tokens", flags->tokens, "to train on, over the text again and again")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb->add_option("--lora", flags->rank,
                   "train adapters of this rank, which are merged at the end; 0: all weights")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_option("--lora-alpha", flags->alpha, "their factor times the rank; 0: twice the rank")
      ->check(CLI::NonNegativeNumber);
  verb->add_option("--lora-target", flags->targets,
                   "weights that get one, a glob; may be repeated (default: all but the head)");
  verb->add_option("--ctx", flags->context, "tokens of a window; the text is packed into windows")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 20))
      ->capture_default_str();
  verb->add_option("--batch", flags->batch, "windows of an optimizer step")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  add_rates(*verb, *flags);
  verb->add_option("--valid", flags->validation, "held-out text: its perplexity on the way");
  verb->add_option("--valid-every", flags->validate_every, "tokens between two of them; 0: none")
      ->check(CLI::NonNegativeNumber);
  verb->add_option("--valid-chunks", flags->validation_chunks, "windows of it, the first ones")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb->add_option("--checkpoint", flags->checkpoint,
                   "written every 5 minutes and on Ctrl-C; default: OUTPUT.checkpoint");
  verb->add_flag("--restart", flags->restart, "begin anew although there is a checkpoint");
  verb->add_option("--seed", flags->seed, "of the order of windows and of adapters")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_option("--threads", flags->threads, "0: one per processor")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  verb->add_flag("--json", flags->json, "a report for machines on standard output, with the curve");
  verb->footer(
      "Zeros of a pruned model stay zero. Activations are computed again block by block, so that "
      "memory is that of the\nweights, their gradients and the optimizer.\n"
      "Examples:\n"
      "  packlight finetune pruned.gguf --text domain.txt -o recovered.gguf --tokens 400000\n"
      "  packlight finetune model.gguf --text domain.txt -o tuned --lora 16 --valid held-out.txt "
      "--valid-every 50000");
  verb->callback([flags] { finetune_verb(*flags); });
}

}  // namespace packlight::cli
