#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/package.h"

namespace packlight::test {

// A folder that goes with the test.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  std::filesystem::path operator/(const char* name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// What a random model looks like.
struct TinyModel {
  io::DecoderConfig config;
  // Format of a matrix by name; nullptr: "w4a8:g32" with an INT8 embedding and head.
  std::function<io::WeightFormat(const std::string& name)> format;
  uint64_t seed = 1;
  // Weights are pruned as their formats' sparsity says; yet all are stored dense.
  bool store_dense = false;
};

// A llama configuration whose sizes are no multiples of the kernels' blocks.
io::DecoderConfig tiny_config();

// Writes a package of random weights, scaled so that activations keep their size from layer to
// layer.
void write_tiny_model(const TinyModel& model, const std::filesystem::path& path,
                      const std::map<std::string, std::span<const std::byte>>& blobs = {});

// write_tiny_model() and open it; the file may go when `folder` does.
std::shared_ptr<const io::Package> tiny_package(const TinyModel& model,
                                                const TemporaryFolder& folder);

io::WeightFormat format_from(const char* text);

}  // namespace packlight::test
