// The onnx package's own tests of every operator, through the importer and the executor.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "exec/executor.h"
#include "import/onnx.h"
#include "import/sources.h"
#include "onnx_file/model.h"
#include "packlight/error.h"
#include "text/run_oracle.h"

namespace packlight {
namespace {

namespace fs = std::filesystem;

struct Case {
  std::string name;
  double rtol = 0, atol = 0;
  int inputs = 0, outputs = 0;
};

std::vector<Case> read_cases(const fs::path& folder) {
  std::ifstream file(folder / "cases.txt");
  std::vector<Case> cases;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    Case one;
    words >> one.name >> one.rtol >> one.atol >> one.inputs >> one.outputs;
    cases.push_back(one);
  }
  return cases;
}

// "NAME reason" a line: cases that are known not to pass.
std::map<std::string, std::string> read_known(const fs::path& path) {
  std::ifstream file(path);
  std::map<std::string, std::string> known;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    const size_t space = line.find(' ');
    known[line.substr(0, space)] = line.substr(space + 1);
  }
  return known;
}

at::Tensor read_tensor(const fs::path& path) {
  const io::TensorRecord record = onnx_file::read_tensor(path);
  const at::ScalarType type = import::scalar_type_of(record.dtype);
  if (record.bytes.empty()) return at::empty(record.shape, type);
  return at::from_blob(const_cast<std::byte*>(record.bytes.data()), record.shape, type).clone();
}

// "" when equal within the case's tolerance: |got - want| <= atol + rtol |want|, as ONNX's runner
// has it.
std::string difference(const at::Tensor& got, const at::Tensor& want, const Case& one) {
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

std::string failure(const Case& one, const fs::path& folder) {
  try {
    const import::OnnxNetwork network = import::load_onnx(folder / "model.onnx");
    exec::Executor executor(network.graph);
    std::unordered_map<std::string, at::Tensor> inputs;
    for (int i = 0; i < one.inputs; ++i) {
      inputs[network.graph.value(network.graph.inputs.at(i)).name] =
          read_tensor(folder / ("input_" + std::to_string(i) + ".pb"));
    }
    const auto outputs = executor.run(inputs);
    for (int i = 0; i < one.outputs; ++i) {
      const graph::Value& value = network.graph.value(network.graph.outputs.at(i));
      const at::Tensor& got = outputs.at(value.name);
      const std::string wrong =
          difference(got, read_tensor(folder / ("output_" + std::to_string(i) + ".pb")), one);
      if (!wrong.empty()) return "output '" + value.name + "': " + wrong;
      if (value.shape) {  // what was inferred must be what came out
        bool fits = value.shape->size() == got.sizes().size();
        for (size_t d = 0; fits && d < value.shape->size(); ++d)
          fits = !(*value.shape)[d].known() ||
                 (*value.shape)[d].value == got.size(static_cast<int64_t>(d));
        if (!fits) return "output '" + value.name + "': inferred " + graph::to_string(*value.shape);
      }
    }
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

// PACKLIGHT_ONNX_CASES=TEXT runs the cases whose name contains TEXT, and says why each fails.
TEST(OnnxNodeCases, ExecutorAgreesWithOnnx) {
  PACKLIGHT_NEEDS(test::oracle_python());
  const fs::path folder = fs::path(PACKLIGHT_BINARY_DIR) / "onnx_node_cases";
  if (!fs::exists(folder / "cases.txt")) {
    std::cout << test::run_oracle("onnx_node_cases.py", folder.string());
  }
  const char* chosen = std::getenv("PACKLIGHT_ONNX_CASES");
  const auto known =
      read_known(fs::path(PACKLIGHT_SOURCE_DIR) / "tests/import/onnx_node_cases_known.txt");
  exec::initialise(1);
  int passed = 0, failed = 0, skipped = 0;
  for (const Case& one : read_cases(folder)) {
    if (chosen != nullptr && one.name.find(chosen) == std::string::npos) continue;
    const std::string why = failure(one, folder / one.name);
    const auto it = known.find(one.name);
    if (why.empty()) {
      ++passed;
      EXPECT_TRUE(it == known.end())
          << one.name << " passes; take it out of the list of known failures";
    } else if (it != known.end()) {
      ++skipped;
      std::cout << one.name << ": known: " << it->second << "\n";
    } else {
      ++failed;
      ADD_FAILURE() << one.name << ": " << why;
    }
  }
  std::cout << "onnx node cases, executor: " << passed << " passed, " << failed << " failed, "
            << skipped << " skipped\n";
  if (chosen == nullptr) EXPECT_GE(passed, 740);
}

}  // namespace
}  // namespace packlight
