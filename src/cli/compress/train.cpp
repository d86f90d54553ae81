#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <thread>

#include "base/fail.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/progress.h"
#include "cli/compress/network_flags.h"
#include "cli/compress/output.h"
#include "cli/verbs.h"
#include "data/loader.h"
#include "deploy/onnx_writer.h"
#include "eval/classification.h"
#include "exec/executor.h"
#include "quantize/network_layers.h"
#include "train/batches.h"
#include "train/trainer.h"

namespace packlight::cli {
namespace {

struct TrainFlags {
  std::string model, data, validation, output, checkpoint, preprocess;
  std::string loss = "cross-entropy", optimizer = "sgd", schedule = "cosine";
  int64_t epochs = 10, batch_size = 64, seed = 0, accumulate = 1, opset = 17, blank = 0;
  double learning_rate = 0.05, momentum = 0.9, weight_decay = 5e-4, smoothing = 0, clip = 0,
         average = 0, warmup_epochs = 0.1;
  data::Augment augment;
  bool freeze_bn = false, restart = false, json = false;
  int threads = 0;
};

// A checkpoint is written this often, and when the run is stopped.
constexpr std::chrono::seconds kCheckpointEvery{30};

// What a checkpoint belongs to: everything that decides the result, but for what the data holds.
std::string identity(const TrainFlags& f, const data::Dataset& dataset) {
  const auto preprocess =
      f.preprocess.empty() ? preprocess_of_model(f.model) : data::read_preprocess(f.preprocess);
  const auto file = base::MappedFile::open(f.model);
  const Json json = {{"model", f.model},
                     {"model_hash", base::hex64(base::hash64(file->bytes()))},
                     {"preprocess", preprocess ? data::preprocess_to_json(*preprocess) : Json()},
                     {"data", f.data},
                     {"samples", dataset.size()},
                     {"loss", f.loss},
                     {"blank", f.blank},
                     {"optimizer", f.optimizer},
                     {"schedule", f.schedule},
                     {"epochs", f.epochs},
                     {"batch_size", f.batch_size},
                     {"seed", f.seed},
                     {"accumulate", f.accumulate},
                     {"learning_rate", f.learning_rate},
                     {"momentum", f.momentum},
                     {"weight_decay", f.weight_decay},
                     {"label_smoothing", f.smoothing},
                     {"clip_norm", f.clip},
                     {"ema", f.average},
                     {"warmup_epochs", f.warmup_epochs},
                     {"freeze_bn", f.freeze_bn},
                     {"flip", f.augment.flip},
                     {"shift", f.augment.shift},
                     {"crop_pad", f.augment.crop_pad}};
  return json.dump();
}

// "epochs 5, not 8; seed 1, not 0": what a checkpoint says, and what this training is.
std::string differences(const std::string& theirs, const std::string& mine) {
  const Json before = Json::parse(theirs, nullptr, /*allow_exceptions=*/false),
             now = Json::parse(mine);
  if (!before.is_object()) return "it says nothing that is known";
  std::string text;
  for (const auto& [key, value] : now.items()) {
    const Json other = before.value(key, Json());
    if (other == value) continue;
    text += fmt::format("{}{} {}, not {}", text.empty() ? "its " : "; ", key, other.dump(),
                        value.dump());
  }
  return text.empty() ? "it says more than this version does" : text;
}

std::string metric_text(const eval::TaskReport& r) {
  if (r.top1) return fmt::format("top-1 {:.2f} %", 100 * r.top1->value);
  if (r.sequence_accuracy) return fmt::format("read {:.2f} %", 100 * r.sequence_accuracy->value);
  if (r.mean_squared_error)
    return fmt::format("mean squared error {:.5g}", r.mean_squared_error->value);
  return "";
}

train::TrainOptions options_of(const TrainFlags& flags, int64_t batches_per_epoch) {
  train::TrainOptions options;
  options.loss.kind = train::parse_loss(flags.loss);
  options.loss.label_smoothing = flags.smoothing;
  options.loss.ctc_blank = flags.blank;
  options.optimizer.kind = train::parse_optimizer(flags.optimizer);
  options.optimizer.momentum = flags.momentum;
  options.optimizer.weight_decay = flags.weight_decay;
  options.schedule.kind = flags.schedule == "cosine" ? train::Schedule::Kind::kCosine
                          : flags.schedule == "step" ? train::Schedule::Kind::kStep
                                                     : train::Schedule::Kind::kConstant;
  options.schedule.peak = flags.learning_rate;
  options.schedule.total_steps =
      std::max<int64_t>(1, flags.epochs * batches_per_epoch / flags.accumulate);
  options.schedule.warmup_steps =
      static_cast<int64_t>(flags.warmup_epochs * static_cast<double>(batches_per_epoch) /
                           static_cast<double>(flags.accumulate));
  options.accumulate = flags.accumulate;
  options.clip_norm = flags.clip;
  options.ema_decay = flags.average;
  options.freeze_bn = flags.freeze_bn;
  options.seed = static_cast<uint64_t>(flags.seed);
  return options;
}

// The held-out samples: those asked for, or MNIST's test pair in the training folder.
std::shared_ptr<const data::Dataset> validation_set(const graph::Graph& graph,
                                                    const TrainFlags& flags,
                                                    data::LabelKind labels) {
  if (flags.validation.empty() && !data::has_test_pair(flags.data)) return nullptr;
  return open_samples(graph, flags.validation.empty() ? flags.data : flags.validation, flags.model,
                      flags.preprocess, labels, /*held_out=*/true);
}

data::LabelKind labels_for(train::LossKind loss) {
  return loss == train::LossKind::kCrossEntropy ? data::LabelKind::kClass
         : loss == train::LossKind::kCtc        ? data::LabelKind::kSequence
                                                : data::LabelKind::kVector;
}

class Training {
 public:
  explicit Training(const TrainFlags& flags) : flags_(flags), network_(load_network(flags.model)) {
    const auto labels = labels_for(train::parse_loss(flags.loss));
    quantize::refuse_quantized(network_.graph, "train");
    dataset_ = open_samples(network_.graph, flags.data, flags.model, flags.preprocess, labels);
    validation_ = validation_set(network_.graph, flags, labels);
    data::LoaderOptions loading;
    loading.batch_size = flags.batch_size;
    loading.seed = static_cast<uint64_t>(flags.seed);
    loading.shuffle = true;
    loading.drop_last = dataset_->size() >= flags.batch_size;
    loading.augment = flags.augment;
    loader_ = std::make_unique<data::Loader>(dataset_, loading);
    trainer_ =
        std::make_unique<train::Trainer>(network_.graph, options_of(flags, loader_->batches()));
    identity_ = identity(flags, *dataset_);
    if (trainer_->looks_behind_softmax())
      std::fprintf(stderr, "note: the loss looks at what the last softmax is given\n");
  }

  Json run() {
    resume();
    check_validation();
    const auto start = std::chrono::steady_clock::now();
    const int64_t batches = loader_->batches();
    try {
      for (int64_t epoch = trainer_->batches_seen() / batches; epoch < flags_.epochs; ++epoch)
        run_epoch(epoch);
      // Stopped while it measured the last epoch: only that is left.
      if (!last_validation_) validate();
    } catch (const Error& error) {
      // The trainer stands after a whole batch: an interrupted one has changed nothing.
      if (error.code() == ErrorCode::kInterrupted) {
        const base::FinishDespiteInterrupt finish;
        train::save_checkpoint(flags_.checkpoint, *trainer_, identity_);
        std::fprintf(stderr, "The same command goes on from '%s'.\n", flags_.checkpoint.c_str());
      }
      throw;
    }
    // No checkpoint knows of what comes now, and it is short.
    const base::FinishDespiteInterrupt finish;
    trainer_->store();
    deploy::OnnxOptions writing;
    writing.opset = flags_.opset;
    writing.metadata = network_.metadata;
    if (const auto preprocess = preprocess_of_model(flags_.model, flags_.preprocess))
      writing.metadata[kPreprocessKey] = data::preprocess_to_json(*preprocess).dump();
    deploy::write_onnx(network_.graph, flags_.output, writing);
    std::error_code error;
    std::filesystem::remove(flags_.checkpoint, error);
    Json json = {{"output", flags_.output},
                 {"epochs", flags_.epochs},
                 {"steps", trainer_->steps_done()},
                 {"seconds",
                  std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()}};
    if (last_validation_) json["validation"] = task_json(*last_validation_);
    json["final_loss"] = trainer_->mean_loss();
    return json;
  }

 private:
  void resume() {
    std::error_code error;
    if (flags_.restart || !std::filesystem::exists(flags_.checkpoint, error)) return;
    const train::Checkpoint checkpoint = train::load_checkpoint(flags_.checkpoint);
    if (checkpoint.identity != identity_) {
      fail(ErrorCode::kInvalidArgument,
           "[train] '{}' is the checkpoint of another training (--restart begins anew): {}",
           flags_.checkpoint, differences(checkpoint.identity, identity_));
    }
    trainer_->restore(checkpoint.state);
    std::fprintf(stderr, "Going on from '%s': %lld batches are done.\n", flags_.checkpoint.c_str(),
                 static_cast<long long>(trainer_->batches_seen()));
  }

  void run_epoch(int64_t epoch) {
    base::Progress progress(fmt::format("Epoch {} of {}", epoch + 1, flags_.epochs),
                            loader_->batches());
    loader_->start_epoch(epoch);
    const int64_t skip = trainer_->batches_seen() - epoch * loader_->batches();
    auto saved = std::chrono::steady_clock::now();
    if (skip == 0) trainer_->start_mean();
    for (int64_t i = 0; auto batch = loader_->next(); ++i) {
      if (i >= skip) {
        trainer_->train_on(train::to_batch(network_.graph, *batch, train::parse_loss(flags_.loss)));
      }
      if (std::chrono::steady_clock::now() - saved > kCheckpointEvery) {
        train::save_checkpoint(flags_.checkpoint, *trainer_, identity_);
        saved = std::chrono::steady_clock::now();
      }
      progress.advance();
    }
    validate();
    std::fprintf(stderr, "epoch %lld: loss %.4f, learning rate %.3g%s%s\n",
                 static_cast<long long>(epoch + 1), trainer_->mean_loss(),
                 trainer_->last_learning_rate(), last_validation_ ? ", held out: " : "",
                 last_validation_ ? metric_text(*last_validation_).c_str() : "");
  }

  void validate() {
    if (!validation_) return;
    trainer_->store();
    last_validation_ = evaluate({});
  }

  // What does not fit the network is told before the first epoch.
  void check_validation() const {
    if (!validation_) return;
    eval::TaskOptions options;
    options.most_samples = 1;
    options.quiet = true;
    evaluate(options);
  }

  eval::TaskReport evaluate(eval::TaskOptions options) const {
    data::Loader loader(validation_,
                        loading_for(network_.graph, *validation_, flags_.batch_size, 0));
    options.ctc_blank = flags_.blank;
    return eval::evaluate_task(eval::graph_subject(network_.graph), nullptr, loader, options);
  }

  const TrainFlags& flags_;
  import::OnnxNetwork network_;
  std::shared_ptr<const data::Dataset> dataset_, validation_;
  std::unique_ptr<data::Loader> loader_;
  std::unique_ptr<train::Trainer> trainer_;
  std::string identity_;
  std::optional<eval::TaskReport> last_validation_;
};

void train_verb(TrainFlags flags) {
  if (flags.threads <= 0)
    flags.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  exec::initialise(flags.threads);
  check_output(flags.model, flags.output);
  if (flags.checkpoint.empty()) flags.checkpoint = flags.output + ".checkpoint";
  check_output_folder(flags.checkpoint);
  const Json json = Training(flags).run();
  if (flags.json) {
    fmt::print("{}\n", json.dump(2));
  } else {
    fmt::print("{}: {} steps in {:.0f} s, loss {:.4f}\n", flags.output, json["steps"].dump(),
               json["seconds"].get<double>(), json["final_loss"].get<double>());
  }
}

}  // namespace

void add_train(CLI::App& app) {
  auto flags = std::make_shared<TrainFlags>();
  CLI::App* verb = app.add_subcommand("train", "Train any ONNX network on labelled samples");
  verb->add_option("MODEL", flags->model, "ONNX file")->required();
  verb->add_option(
          "--data", flags->data,
          "folder with IDX files (MNIST), .npy, .npz, folder of pictures, or a list of pictures")
      ->required();
  verb->add_option("--valid", flags->validation,
                   "held-out samples, measured after every epoch (MNIST: the test pair of the "
                   "folder, that of --data by default)");
  verb->add_option("-o,--output", flags->output, "ONNX file to write")->required();
  verb->add_option(
      "--preprocess", flags->preprocess,
      "how pictures become inputs (default: MODEL with the extension .yaml, when it is there)");
  verb->add_option("--epochs", flags->epochs, "passes over the data")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb->add_option("--batch-size", flags->batch_size, "samples a batch")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb->add_option("--loss", flags->loss, "cross-entropy, mse, kl, ctc")
      ->check(CLI::IsMember({"cross-entropy", "mse", "kl", "ctc"}))
      ->capture_default_str();
  verb->add_option("--label-smoothing", flags->smoothing,
                   "cross-entropy: share spread over all classes")
      ->capture_default_str();
  verb->add_option("--blank", flags->blank, "ctc: the class that stands for nothing")
      ->capture_default_str();
  verb->add_option("--optimizer", flags->optimizer, "sgd (with momentum) or adamw")
      ->check(CLI::IsMember({"sgd", "adamw"}))
      ->capture_default_str();
  verb->add_option("--lr", flags->learning_rate, "learning rate after warm-up")
      ->capture_default_str();
  verb->add_option("--momentum", flags->momentum, "of sgd")->capture_default_str();
  verb->add_option("--weight-decay", flags->weight_decay, "of matrices and kernels")
      ->capture_default_str();
  verb->add_option("--schedule", flags->schedule,
                   "constant, step (a tenth after each third), cosine")
      ->check(CLI::IsMember({"constant", "step", "cosine"}))
      ->capture_default_str();
  verb->add_option("--warmup", flags->warmup_epochs, "epochs of linear warm-up")
      ->capture_default_str();
  verb->add_option("--clip", flags->clip, "largest norm of the gradients; 0: none")
      ->capture_default_str();
  verb->add_option("--accumulate", flags->accumulate, "batches an optimizer step")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb->add_option("--ema", flags->average,
                   "decay of an average of the weights, which is then the result; 0: none")
      ->capture_default_str();
  verb->add_flag("--freeze-bn", flags->freeze_bn,
                 "batch normalization uses its running statistics and keeps them");
  verb->add_option("--flip", flags->augment.flip, "pictures: probability of mirroring")
      ->capture_default_str();
  verb->add_option("--shift", flags->augment.shift, "pictures: moved by up to so many pixels")
      ->capture_default_str();
  verb->add_option("--crop-pad", flags->augment.crop_pad,
                   "pictures: so many black pixels around, then a random cut of the old size")
      ->capture_default_str();
  verb->add_option("--seed", flags->seed, "of order, augmentation and dropout")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_option("--checkpoint", flags->checkpoint,
                   "file from which a stopped run goes on (default: OUTPUT.checkpoint); gone when "
                   "training ends");
  verb->add_flag("--restart", flags->restart, "begin anew although there is a checkpoint");
  verb->add_option("--opset", flags->opset, "of the file written, 13 to 23")
      ->check(CLI::Range(13, 23))
      ->capture_default_str();
  verb->add_option("--threads", flags->threads, "0: one per processor")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  verb->add_flag("--json", flags->json, "a report for machines on standard output");
  verb->footer(
      "Examples:\n"
      "  packlight train lenet5.onnx --data mnist -o trained.onnx --epochs 12 --shift 2\n"
      "  packlight train student.onnx --data photos/train --valid photos/test -o trained.onnx "
      "--flip 0.5 --crop-pad 4\n"
      "\nA run that is stopped goes on from its checkpoint when the same command is given again, "
      "with the same result.");
  verb->callback([verb, flags] {
    refuse_idle_flags(
        *verb,
        {{"--label-smoothing", flags->loss == "cross-entropy", "it is of --loss cross-entropy"},
         {"--blank", flags->loss == "ctc", "it is of --loss ctc"},
         {"--momentum", flags->optimizer == "sgd", "it is of --optimizer sgd"}});
    train_verb(*flags);
  });
}

}  // namespace packlight::cli
