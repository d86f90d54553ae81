#include "cli/compress/network_flags.h"

#include <charconv>
#include <cstdio>

#include "base/fail.h"
#include "data/preprocess.h"

namespace packlight::cli {

import::OnnxNetwork load_network(const std::string& path){
    import::OnnxNetwork network = import::load_onnx(path);
for (const std::string& notice : network.notices)
  std::fprintf(stderr, "note: %s\n", notice.c_str());
return network;
}  // namespace packlight::cli

std::vector<int64_t> parse_sizes(const std::string& flag, const std::string& text, char separator,
                                 size_t wanted) {
  std::vector<int64_t> numbers;
  size_t begin = 0;
  bool good = !text.empty();
  while (good && begin <= text.size()) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    int64_t number = 0;
    const auto [stop, error] = std::from_chars(text.data() + begin, text.data() + end, number);
    good = error == std::errc() && stop == text.data() + end && number >= 0;
    numbers.push_back(number);
    begin = end + 1;
  }
  if (!good || (wanted > 0 && numbers.size() != wanted)) {
    const std::string count = wanted > 0 ? std::to_string(wanted) + " " : "";
    fail(ErrorCode::kInvalidArgument,
         "[cli] {} '{}': {}whole numbers are wanted, separated by '{}'", flag, text, count,
         separator);
  }
  return numbers;
}

std::map<std::string, std::vector<int64_t>> parse_input_shapes(
    const std::vector<std::string>& texts, const graph::Graph& graph) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const std::string& text : texts) {
    const size_t equals = text.rfind('=');
    if (equals == std::string::npos && graph.inputs.size() != 1) {
      fail(ErrorCode::kInvalidArgument,
           "[cli] --input-shape '{}': '{}' has {} inputs; write NAME=1,3,48,320", text, graph.name,
           graph.inputs.size());
    }
    const std::string name =
        equals == std::string::npos ? graph.value(graph.inputs[0]).name : text.substr(0, equals);
    shapes[name] = parse_sizes(
        "--input-shape", equals == std::string::npos ? text : text.substr(equals + 1), ',', 0);
  }
  return shapes;
}

Json task_json(const eval::TaskReport& report) {
  Json json = {{"samples", report.samples}};
  const auto put = [&](const char* key, const std::optional<eval::Estimate>& e) {
    if (!e) return;
    json[key] = e->value;
    json[std::string(key) + "_se"] = e->standard_error;
  };
  put("top1", report.top1);
  put("top5", report.top5);
  put("sequence_accuracy", report.sequence_accuracy);
  put("mean_squared_error", report.mean_squared_error);
  put("agreement", report.agreement);
  if (report.output_difference) json["output_difference"] = *report.output_difference;
  json["seconds"] = report.seconds;
  return json;
}

std::shared_ptr<const data::Dataset> open_samples(const std::string& path, const std::string& model,
                                                  const std::string& preprocess,
                                                  std::optional<data::LabelKind> labels) {
  data::DatasetOptions options;
  options.labels = labels;
  options.preprocess =
      preprocess.empty() ? data::find_preprocess(model) : data::read_preprocess(preprocess);
  return data::open_dataset(path, options);
}

}  // namespace packlight::cli
