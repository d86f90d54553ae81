#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "calib/activation_ranges.h"
#include "data/loader.h"
#include "graph/graph.h"

namespace packlight::cli {

struct CalibrationFlags {
  std::string data, preprocess;
  int64_t samples = 1000, batch_size = 0;
  const CLI::Option* samples_option = nullptr;  // --samples, to know whether it was given
};
std::vector<CLI::Option*> add_calibration_flags(CLI::App& verb, CalibrationFlags& flags);

// Samples of a data set, picked by the seed, batch by batch whenever asked.
class CalibrationData {
 public:
  // `graph` gives the inputs, and must outlive this; `model`: its file, for the sidecar that says
  // how pictures are prepared. Batches as loading_for() says. Errors: those of data.
  CalibrationData(const graph::Graph& graph, const std::string& model,
                  const CalibrationFlags& flags, uint64_t seed);

  int64_t samples() const { return samples_; }  // that pass: whole batches where only they fit
  int64_t batch_size() const { return loading_.batch_size; }
  calib::Batches batches() const;  // refers to this

 private:
  void each(const std::function<bool(const calib::Inputs&)>& use) const;

  const graph::Graph& graph_;
  std::shared_ptr<const data::Dataset> dataset_;
  data::LoaderOptions loading_;
  int64_t samples_ = 0;
  bool any_batch_ = true;  // the network takes batches of any size
};

}  // namespace packlight::cli
