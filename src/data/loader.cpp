#include "data/loader.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <numeric>
#include <thread>

#include "base/fail.h"
#include "base/interrupt.h"
#include "base/thread_pool.h"

namespace packlight::data {
namespace {

void check_options(const Dataset& dataset, const LoaderOptions& options) {
  const auto at_least_one = [](const char* name, int64_t value, int64_t limit) {
    if (value < 1 || value > limit) {
      fail(ErrorCode::kInvalidArgument, "[data.loader] {} {} is not from 1 to {}", name, value,
           limit);
    }
  };
  at_least_one("batch_size", options.batch_size, int64_t{1} << 31);
  at_least_one("prefetch", options.prefetch, 1024);
  at_least_one("threads", options.threads, 1024);
  check_augment(options.augment);
  if (options.augment.any() && !dataset.picture_format()) {
    fail(ErrorCode::kInvalidArgument,
         "[data.loader] augmentation is for pictures, and {} is none: give a preprocessing or the "
         "arrays' layout",
         dataset.sample_name(0));
  }
  if (options.drop_last && options.batch_size > dataset.size()) {
    fail(ErrorCode::kInvalidArgument,
         "[data.loader] batch_size {} with drop_last leaves no batch of {} samples",
         options.batch_size, dataset.size());
  }
}

// Nothing that is computed from one means anything.
void check_numbers(const Dataset& dataset, int64_t index, const Sample& sample) {
  for (const Field& field : sample.inputs) {
    if (field.array.dtype != codec::DType::kF32) continue;
    const auto values = field.array.f32();
    const auto nan = std::find_if(values.begin(), values.end(), [](float x) { return x != x; });
    if (nan == values.end()) continue;
    fail(ErrorCode::kInvalidArgument,
         "[data.loader] {}{} is nan at element {}: samples must be numbers",
         dataset.sample_name(index),
         field.name.empty() ? "" : fmt::format(", array '{}',", field.name), nan - values.begin());
  }
}

void check_alike(const Dataset& dataset, int64_t first, const Sample& a, int64_t other,
                 const Sample& b) {
  if (a.inputs.size() != b.inputs.size() || a.label.index() != b.label.index())
    fail(ErrorCode::kInternal, "[data.loader] samples {} and {} differ in kind", first, other);
  for (size_t i = 0; i < a.inputs.size(); ++i) {
    const Array &x = a.inputs[i].array, &y = b.inputs[i].array;
    if (x.shape == y.shape && x.dtype == y.dtype) continue;
    fail(ErrorCode::kInvalidArgument,
         "[data.loader] {} has shape {}, {} has {}: samples of a batch must be alike (pictures: "
         "give 'resize' in the network's .yaml file)",
         dataset.sample_name(first), shape_text(x.shape), dataset.sample_name(other),
         shape_text(y.shape));
  }
}

std::vector<Field> stack_inputs(const std::vector<Sample>& samples) {
  std::vector<Field> inputs;
  for (size_t f = 0; f < samples[0].inputs.size(); ++f) {
    const Field& first = samples[0].inputs[f];
    std::vector<int64_t> shape = {static_cast<int64_t>(samples.size())};
    shape.insert(shape.end(), first.array.shape.begin(), first.array.shape.end());
    Field field{first.name, make_array(first.array.dtype, std::move(shape))};
    size_t at = 0;
    for (const Sample& sample : samples) {
      const auto& bytes = sample.inputs[f].array.bytes;
      std::copy(bytes.begin(), bytes.end(), field.array.bytes.begin() + static_cast<int64_t>(at));
      at += bytes.size();
    }
    inputs.push_back(std::move(field));
  }
  return inputs;
}

BatchLabels stack_labels(const std::vector<Sample>& samples) {
  BatchLabels labels;
  labels.kind = static_cast<LabelKind>(samples[0].label.index());
  if (labels.kind == LabelKind::kVector) {
    const auto width = static_cast<int64_t>(std::get<std::vector<float>>(samples[0].label).size());
    labels.vectors = make_array(codec::DType::kF32, {static_cast<int64_t>(samples.size()), width});
  }
  size_t at = 0;
  for (const Sample& sample : samples) {
    if (const auto* index = std::get_if<int64_t>(&sample.label)) {
      labels.classes.push_back(*index);
    } else if (const auto* vector = std::get_if<std::vector<float>>(&sample.label)) {
      std::copy(vector->begin(), vector->end(), labels.vectors.f32().begin() + at);
      at += vector->size();
    } else if (const auto* sequence = std::get_if<std::vector<int64_t>>(&sample.label)) {
      labels.sequence.insert(labels.sequence.end(), sequence->begin(), sequence->end());
      labels.lengths.push_back(static_cast<int64_t>(sequence->size()));
    }
  }
  return labels;
}

}  // namespace

struct Loader::State {
  std::shared_ptr<const Dataset> dataset;
  LoaderOptions options;
  std::optional<PictureFormat> format;
  int64_t batches = 0;

  std::mutex mutex;
  std::condition_variable_any changed;
  std::deque<Batch> ready;   // guarded by mutex, as all below
  std::exception_ptr error;  // comes after `ready`
  bool finished = true;      // the producer has made its last batch, or failed
  std::jthread producer;     // last: it stops before what it uses goes

  std::vector<int64_t> order(int64_t epoch) const {
    std::vector<int64_t> indices(dataset->size());
    std::iota(indices.begin(), indices.end(), 0);
    if (options.shuffle) {
      Random random(options.seed, static_cast<uint64_t>(epoch));
      random.shuffle(std::span(indices));
    }
    return indices;
  }

  Sample make_sample(int64_t epoch, int64_t index) const {
    base::check_interrupt();
    Sample sample = dataset->sample(index);
    check_numbers(*dataset, index, sample);
    if (options.augment.any()) {
      Random random(options.seed, static_cast<uint64_t>(epoch), static_cast<uint64_t>(index) + 1);
      apply_augment(options.augment, *format, random, sample.inputs.at(0).array);
    }
    return sample;
  }

  Batch make_batch(base::ThreadPool& pool, int64_t epoch, std::vector<int64_t> indices) const {
    std::vector<Sample> samples(indices.size());
    std::vector<std::exception_ptr> errors(indices.size());
    std::atomic<size_t> next = 0;
    pool.run([&](int) {
      for (size_t i; (i = next.fetch_add(1)) < indices.size();) {
        try {
          samples[i] = make_sample(epoch, indices[i]);
        } catch (...) {
          errors[i] = std::current_exception();  // the first in order is told, whoever came first
        }
      }
    });
    for (const std::exception_ptr& e : errors) {
      if (e) std::rethrow_exception(e);
    }
    for (size_t i = 1; i < samples.size(); ++i)
      check_alike(*dataset, indices[0], samples[0], indices[i], samples[i]);
    Batch batch{epoch, std::move(indices), stack_inputs(samples), stack_labels(samples)};
    return batch;
  }

  // The producer's thread.
  void produce(const std::stop_token& stop, int64_t epoch) {
    try {
      base::ThreadPool pool(options.threads);
      const std::vector<int64_t> indices = order(epoch);
      for (int64_t b = 0; b < batches && !stop.stop_requested(); ++b) {
        const int64_t begin = b * options.batch_size;
        const int64_t end = std::min(begin + options.batch_size, dataset->size());
        Batch batch = make_batch(pool, epoch, {indices.begin() + begin, indices.begin() + end});
        std::unique_lock lock(mutex);
        const auto room = [&] { return ready.size() < static_cast<size_t>(options.prefetch); };
        if (!changed.wait(lock, stop, room)) return;
        ready.push_back(std::move(batch));
        changed.notify_all();
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      error = std::current_exception();
    }
    const std::lock_guard lock(mutex);
    finished = true;
    changed.notify_all();
  }

  void stop() {
    if (!producer.joinable()) return;
    producer.request_stop();
    producer.join();
  }
};

Loader::Loader(std::shared_ptr<const Dataset> dataset, const LoaderOptions& options)
    : state_(std::make_unique<State>()) {
  check_options(*dataset, options);
  state_->format = dataset->picture_format();
  state_->options = options;
  const int64_t size = dataset->size(), batch = options.batch_size;
  state_->batches = options.drop_last ? size / batch : (size + batch - 1) / batch;
  state_->dataset = std::move(dataset);
}

Loader::~Loader() { state_->stop(); }

const Dataset& Loader::dataset() const { return *state_->dataset; }
int64_t Loader::batches() const { return state_->batches; }

void Loader::start_epoch(int64_t epoch) {
  if (epoch < 0) fail(ErrorCode::kInvalidArgument, "[data.loader] epoch {} is negative", epoch);
  State& state = *state_;
  state.stop();
  state.ready.clear();
  state.error = nullptr;
  state.finished = false;
  state.producer =
      std::jthread([&state, epoch](const std::stop_token& stop) { state.produce(stop, epoch); });
}

std::optional<Batch> Loader::next() {
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  state.changed.wait(lock, [&] { return !state.ready.empty() || state.finished; });
  if (!state.ready.empty()) {
    Batch batch = std::move(state.ready.front());
    state.ready.pop_front();
    state.changed.notify_all();
    return batch;
  }
  if (state.error) std::rethrow_exception(std::exchange(state.error, nullptr));
  return std::nullopt;
}

}  // namespace packlight::data
