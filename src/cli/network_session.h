#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/network_package.h"
#include "runtime/network/engine.h"

namespace packlight::cli {

// A network's package ready to run, with the bytes of its inputs.
class NetworkSession {
 public:
  // threads 0: one per processor.
  NetworkSession(const std::string& path, int threads);

  const io::NetworkPackage& package() const { return package_; }
  const io::Network& network() const { return *package_.network(); }
  runtime::Engine& engine() { return engine_; }
  int threads() const { return pool_->size(); }

  // Inputs by name; one that is left out is the constant that the network has for it. Errors:
  // InvalidArgument when there is none.
  void set_inputs(const std::vector<io::TensorRecord>& records);

  // Inputs of these shapes, by name: floats uniform in [-1, 1], integers and booleans 0. A
  // dimension that is left over is 1 where it is the first. Errors: InvalidArgument naming the
  // input for one that is not.
  void set_random_inputs(const std::map<std::string, std::vector<int64_t>>& shapes);

  void plan() { engine_.plan(inputs_); }
  void run() { engine_.run(inputs_); }
  // Views of what the last run made, in the network's order.
  std::vector<io::TensorRecord> outputs() const;
  // Shapes of the inputs that are set, by name.
  std::map<std::string, std::vector<int64_t>> input_shapes() const;

 private:
  io::NetworkPackage package_;
  std::shared_ptr<base::ThreadPool> pool_;
  runtime::Engine engine_;
  std::vector<runtime::Tensor> inputs_;
  std::vector<std::shared_ptr<const void>> owners_;  // of the inputs' bytes
};

}  // namespace packlight::cli
