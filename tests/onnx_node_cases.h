#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "import/onnx.h"
#include "import/sources.h"
#include "onnx_file/model.h"
#include "packlight/error.h"
#include "text/run_oracle.h"

// The onnx package's own tests of every operator, as tests/oracle/onnx_node_cases.py writes them.
namespace packlight::test {

namespace fs = std::filesystem;

struct OnnxCase {
  std::string name;
  double rtol = 0, atol = 0;
  int inputs = 0, outputs = 0;
};

inline std::vector<OnnxCase> read_onnx_cases(const fs::path& folder) {
  std::ifstream file(folder / "cases.txt");
  std::vector<OnnxCase> cases;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    OnnxCase one;
    words >> one.name >> one.rtol >> one.atol >> one.inputs >> one.outputs;
    cases.push_back(one);
  }
  return cases;
}

// "NAME reason" a line: cases that are known not to pass.
inline std::map<std::string, std::string> read_known_failures(const fs::path& path) {
  std::ifstream file(path);
  std::map<std::string, std::string> known;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    const size_t space = line.find(' ');
    known[line.substr(0, space)] = line.substr(space + 1);
  }
  return known;
}

inline at::Tensor read_onnx_tensor(const fs::path& path) {
  const io::TensorRecord record = onnx_file::read_tensor(path);
  const at::ScalarType type = import::scalar_type_of(record.dtype);
  if (record.bytes.empty()) return at::empty(record.shape, type);
  return at::from_blob(const_cast<std::byte*>(record.bytes.data()), record.shape, type).clone();
}

// "" when equal within the case's tolerance: |got - want| <= atol + rtol |want|, as ONNX's runner
// has it.
inline std::string difference(const at::Tensor& got, const at::Tensor& want, const OnnxCase& one) {
  std::ostringstream text;
  if (got.scalar_type() != want.scalar_type()) {
    text << "type " << got.scalar_type() << ", not " << want.scalar_type();
  } else if (got.sizes() != want.sizes()) {
    text << "shape " << got.sizes() << ", not " << want.sizes();
  } else {
    const at::Tensor a = got.to(at::kDouble).reshape({-1}), b = want.to(at::kDouble).reshape({-1});
    const bool exact = !at::isFloatingType(want.scalar_type());
    const at::Tensor bound = exact ? at::zeros_like(b) : at::abs(b) * one.rtol + one.atol;
    const at::Tensor equal = at::logical_or(at::logical_or(a == b, at::abs(a - b) <= bound),
                                            at::logical_and(at::isnan(a), at::isnan(b)));
    if (!equal.all().item<bool>()) {
      const int64_t at = equal.logical_not().to(at::kByte).argmax().item<int64_t>();
      text << "element " << at << " is " << a[at].item<double>() << ", not "
           << b[at].item<double>();
    }
  }
  return text.str();
}

// Where a case's input or output is.
inline fs::path onnx_case_file(const fs::path& folder, const OnnxCase& one, const char* kind,
                               int index) {
  return folder / one.name / (std::string(kind) + "_" + std::to_string(index) + ".pb");
}

// The folder of the cases, made when it is not there yet: another one for another list of operators.
inline fs::path onnx_cases_folder() {
  std::string made_from;
  for (const char* name : {"onnx_node_cases.py", "onnx_operators.txt"}) {
    std::ifstream file(fs::path(PACKLIGHT_SOURCE_DIR) / "tests/oracle" / name);
    made_from.append(std::istreambuf_iterator<char>(file), {});
  }
  const fs::path folder =
      fs::path(PACKLIGHT_BINARY_DIR) /
      ("onnx_node_cases." + std::to_string(std::hash<std::string>()(made_from)));
  if (!fs::exists(folder / "cases.txt"))
    std::cout << run_oracle("onnx_node_cases.py", folder.string());
  return folder;
}

// Runs every case (those whose name contains $PACKLIGHT_ONNX_CASES, when that is set) and fails for
// each one for which `failure(case, folder)` says why it failed, unless the file `known` lists it
// with a reason: then it must fail. Prints the counts; at least `least` must pass. `failure` may
// say "skip: REASON" for a case that does not concern it.
inline void run_onnx_cases(
    const char* title, const fs::path& known_file, int least,
    const std::function<std::string(const OnnxCase&, const fs::path&)>& failure) {
  PACKLIGHT_NEEDS(oracle_python());
  const fs::path folder = onnx_cases_folder();
  const char* chosen = std::getenv("PACKLIGHT_ONNX_CASES");
  const auto known = read_known_failures(known_file);
  int passed = 0, failed = 0;
  std::map<std::string, int> skipped;
  for (const OnnxCase& one : read_onnx_cases(folder)) {
    if (chosen != nullptr && one.name.find(chosen) == std::string::npos) continue;
    std::string why;
    try {
      why = failure(one, folder);
    } catch (const std::exception& error) {
      why = error.what();
    }
    const auto it = known.find(one.name);
    if (why.empty()) {
      ++passed;
      EXPECT_TRUE(it == known.end())
          << one.name << " passes; take it out of the list of known failures";
    } else if (why.rfind("skip: ", 0) == 0) {
      ++skipped[why.substr(6)];
    } else if (it != known.end()) {
      ++skipped[one.name + ": " + it->second];
    } else {
      ++failed;
      ADD_FAILURE() << one.name << ": " << why;
    }
  }
  int skips = 0;
  for (const auto& [reason, count] : skipped) {
    std::cout << count << " skipped: " << reason << "\n";
    skips += count;
  }
  std::cout << title << ": " << passed << " passed, " << failed << " failed, " << skips
            << " skipped\n";
  if (chosen == nullptr) {
    EXPECT_GE(passed, least);
  }
}

}  // namespace packlight::test
