#include "cli/compress/calibration_data.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdio>

#include "cli/compress/network_flags.h"
#include "exec/data_inputs.h"

namespace packlight::cli {
namespace {

constexpr int64_t kUsualBatch = 32;

}  // namespace

std::vector<CLI::Option*> add_calibration_flags(CLI::App& verb, CalibrationFlags& flags) {
  CLI::Option* samples =
      verb.add_option("--samples", flags.samples, "to calibrate on, picked by the seed")
          ->check(CLI::PositiveNumber)
          ->capture_default_str();
  flags.samples_option = samples;
  return {verb.add_option("--data", flags.data,
                          "calibration samples: folder with IDX files, .npy, .npz, a folder of "
                          "either (one sample a file), of pictures, or a list of pictures"),
          verb.add_option("--preprocess", flags.preprocess,
                          "how pictures become inputs (default: MODEL with the extension .yaml)"),
          samples,
          verb.add_option("--batch-size", flags.batch_size,
                          "samples that run together; 0: 32, or 1 where sizes are free")
              ->check(CLI::NonNegativeNumber)
              ->capture_default_str()};
}

CalibrationData::CalibrationData(const graph::Graph& graph, const std::string& model,
                                 const CalibrationFlags& flags, uint64_t seed)
    : graph_(graph) {
  dataset_ = open_samples(graph, flags.data, model, flags.preprocess, data::LabelKind::kNone);
  samples_ = std::min(flags.samples, dataset_->size());
  if (samples_ < flags.samples && flags.samples_option && flags.samples_option->count() > 0) {
    std::fprintf(stderr, "note: '%s' has %lld samples, fewer than the %lld asked for\n",
                 flags.data.c_str(), static_cast<long long>(samples_),
                 static_cast<long long>(flags.samples));
  }
  loading_ = loading_for(graph, *dataset_, flags.batch_size, kUsualBatch);
  any_batch_ = !loading_.drop_last;
  const int64_t batch = loading_.batch_size;
  if (any_batch_) {
    loading_.batch_size = std::min(batch, samples_);
  } else if (batch <= dataset_->size()) {
    samples_ = std::min((samples_ + batch - 1) / batch, dataset_->size() / batch) * batch;
  }
  loading_.seed = seed;
  loading_.shuffle = true;  // files are often sorted by class
}

calib::Batches CalibrationData::batches() const {
  return [this](const std::function<bool(const calib::Inputs&)>& use) { each(use); };
}

void CalibrationData::each(const std::function<bool(const calib::Inputs&)>& use) const {
  data::Loader loader(dataset_, loading_);
  loader.start_epoch(0);
  for (int64_t seen = 0; seen < samples_;) {
    const auto batch = loader.next();
    if (!batch) return;
    calib::Inputs inputs = exec::input_tensors(graph_, *batch);
    if (any_batch_ && seen + batch->size() > samples_)
      for (auto& [name, tensor] : inputs) tensor = tensor.narrow(0, 0, samples_ - seen);
    seen += batch->size();
    if (!use(inputs)) return;
  }
}

}  // namespace packlight::cli
