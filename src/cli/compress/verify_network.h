#pragma once

#include <string>
#include <vector>

namespace packlight::cli {

struct NetworkVerification {
  std::string package, original;  // original may be empty
  std::vector<std::string> input_shapes;
  double tolerance = 1e-4;  // of the range of an output
  bool json = false;
};

// `verify` on a network's package: its checksums; the runtime beside exec/ on the graph that it
// decodes to, on random inputs; and the original beside it. Prints what it found. Errors: Corrupt
// for a wrong checksum or a difference beyond the tolerance. How far a quantized network (one with
// a recipe) is from its original is printed and not judged.
void verify_network_package(const NetworkVerification& what);

}  // namespace packlight::cli
