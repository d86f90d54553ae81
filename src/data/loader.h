#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "data/augment.h"
#include "data/dataset.h"

namespace packlight::data {

struct LoaderOptions {
  int64_t batch_size = 32;  // >= 1
  uint64_t seed = 0;        // of shuffling and augmentation
  bool shuffle = false;     // a new order for each epoch; otherwise the dataset's order
  bool drop_last = false;   // leave out a last batch that is not full
  Augment augment = {};     // pictures only
  int prefetch = 2;  // batches made ahead, >= 1; the memory they take is theirs times batch_size
  int threads = 1;   // that read samples, >= 1
};

// The labels of a batch; what `kind` names is filled, the rest is empty.
struct BatchLabels {
  LabelKind kind = LabelKind::kNone;
  std::vector<int64_t> classes;   // [n]
  Array vectors;                  // F32 [n, k]
  std::vector<int64_t> sequence;  // all sequences, one after the other (as CTC losses take them)
  std::vector<int64_t> lengths;   // [n], of each sequence
};

struct Batch {
  int64_t epoch = 0;             // from 0
  std::vector<int64_t> indices;  // which samples, [n]; n = batch_size but for the last
  std::vector<Field> inputs;     // each [n, ...sample shape], contiguous
  BatchLabels labels;
  int64_t size() const { return static_cast<int64_t>(indices.size()); }
};

// Batches of a dataset, made by a thread of their own while the caller computes. The batches of an
// epoch depend on dataset, options (not prefetch, not threads) and the epoch's number only. The
// order is Random(seed, epoch)'s shuffle of 0 .. size-1; augmentation of sample i draws from
// Random(seed, epoch, i + 1). One caller at a time.
class Loader {
 public:
  // Errors: InvalidArgument for options out of range, augmentation of samples that are no pictures,
  // a batch size above the dataset's with drop_last (no batch would come).
  Loader(std::shared_ptr<const Dataset> dataset, const LoaderOptions& options);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  const Dataset& dataset() const;
  int64_t batches() const;  // in an epoch

  // From here on next() yields the batches of `epoch` (>= 0); those made ahead of another are
  // dropped.
  void start_epoch(int64_t epoch);

  // The next batch of the epoch, nullopt after its last; before any start_epoch(), nullopt. Errors:
  // those of a sample, at the batch that holds it (the first such sample in batch order);
  // InvalidArgument naming two samples whose inputs differ in shape, or one that holds a NaN;
  // Interrupted. After an error
  // next() returns nullopt until start_epoch().
  std::optional<Batch> next();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace packlight::data
