#include "cli/network_arrays.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <numeric>
#include <set>

#include "base/fail.h"
#include "cli/input_shapes.h"
#include "codec/half.h"
#include "data/picture.h"
#include "io/npy.h"

namespace packlight::cli {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kPrintedNumbers = 16;

bool is_picture(const fs::path& path) {
  std::string extension = path.extension().string();
  for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return extension == ".png" || extension == ".jpg" || extension == ".jpeg";
}

// [1, channels, height, width] or [1, height, width, channels]
io::TensorRecord read_picture(const std::string& path, const NetworkInput& input,
                              const std::optional<data::Preprocess>& given) {
  const data::Preprocess preprocess = given.value_or(data::Preprocess());
  const size_t channels = preprocess.layout == data::Layout::kNchw ? 1 : 3;
  const bool gray = input.shape && input.shape->size() == 4 && (*input.shape)[channels].value == 1;
  const data::Preprocessor prepare(preprocess, gray ? data::Channels::kGray : data::Channels::kRgb);
  if (!given) {
    std::fprintf(
        stderr,
        "note: nothing says how pictures become inputs: '%s' is taken as %s / 255 in its own "
        "size (the network's .yaml file, or --preprocess)\n",
        path.c_str(), gray ? "gray" : "RGB");
  }
  auto array = std::make_shared<data::Array>(prepare.apply(data::read_picture(path), path));
  io::TensorRecord record;
  record.dtype = array->dtype;
  record.shape = array->shape;
  record.shape.insert(record.shape.begin(), 1);
  record.bytes = array->bytes;
  record.owner = std::move(array);
  return record;
}

template <class T>
double element_as(const io::TensorRecord& record, int64_t index) {
  return static_cast<double>(reinterpret_cast<const T*>(record.bytes.data())[index]);
}

double element(const io::TensorRecord& record, int64_t index) {
  switch (record.dtype) {
    case codec::DType::kF64:
      return element_as<double>(record, index);
    case codec::DType::kF32:
      return element_as<float>(record, index);
    case codec::DType::kF16:
      return codec::f16_to_f32(reinterpret_cast<const uint16_t*>(record.bytes.data())[index]);
    case codec::DType::kBF16:
      return codec::bf16_to_f32(reinterpret_cast<const uint16_t*>(record.bytes.data())[index]);
    case codec::DType::kI64:
      return element_as<int64_t>(record, index);
    case codec::DType::kI32:
      return element_as<int32_t>(record, index);
    case codec::DType::kI16:
      return element_as<int16_t>(record, index);
    case codec::DType::kI8:
      return element_as<int8_t>(record, index);
    default:
      return element_as<uint8_t>(record, index);
  }
}

std::string to_string(const std::vector<io::NetworkDim>& shape) {
  std::vector<std::string> dims;
  for (const io::NetworkDim& dim : shape) {
    dims.push_back(dim.value >= 0       ? std::to_string(dim.value)
                   : dim.symbol.empty() ? "?"
                                        : dim.symbol);
  }
  return fmt::format("[{}]", fmt::join(dims, ", "));
}

void check_shape(const std::string& text, const NetworkInput& input,
                 const io::TensorRecord& record) {
  if (record.bytes.empty()) {
    fail(ErrorCode::kInvalidArgument, "[run] --input '{}' of shape [{}] holds nothing", text,
         fmt::join(record.shape, ", "));
  }
  if (!input.shape) return;
  bool fits = input.shape->size() == record.shape.size();
  for (size_t i = 0; fits && i < record.shape.size(); ++i) {
    const int64_t wanted = (*input.shape)[i].value;
    fits = wanted < 0 || wanted == record.shape[i];
  }
  if (!fits) {
    fail(ErrorCode::kInvalidArgument,
         "[run] --input '{}' has shape [{}], the network's input '{}' takes {}{}", text,
         fmt::join(record.shape, ", "), input.name, to_string(*input.shape),
         is_picture(input_value(text))
             ? " (the network's .yaml file, or --preprocess, says 'resize')"
             : "");
  }
}

struct Label {
  int64_t index;
  double score;
};

// The classes of the largest scores of a row, the first of equal ones first.
std::vector<Label> best_labels(const io::TensorRecord& output, int64_t row, int64_t count) {
  const int64_t classes = output.shape.back();
  std::vector<Label> labels;
  for (int64_t c = 0; c < classes; ++c) labels.push_back({c, element(output, row * classes + c)});
  std::stable_sort(labels.begin(), labels.end(),
                   [](const Label& a, const Label& b) { return a.score > b.score; });
  labels.resize(std::min(classes, count));
  return labels;
}

// A value name may hold what a file name cannot.
std::string file_name(std::string name) {
  for (char& c : name) {
    if (c == '/' || c == '\\' || c == '\0') c = '_';
  }
  return name + ".npy";
}

bool is_one_file(const OutputFlags& flags) { return fs::path(flags.path).extension() == ".npy"; }

Json labels_json(const io::TensorRecord& output, int64_t count) {
  Json samples = Json::array();
  for (int64_t row = 0; row < output.shape[0]; ++row) {
    Json sample = Json::array();
    for (const Label& label : best_labels(output, row, count))
      sample.push_back({{"class", label.index}, {"score", label.score}});
    samples.push_back(std::move(sample));
  }
  return samples;
}

bool has_labels(const io::TensorRecord& output) {
  return (output.shape.size() == 2 || output.shape.size() == 3) && output.shape.back() > 1;
}

// What a recognizer says of a sample: the best class of every step, repetitions merged, class 0
// left out.
std::vector<int64_t> reading_of(const io::TensorRecord& output, int64_t sample) {
  const int64_t steps = output.shape[1];
  std::vector<int64_t> reading;
  for (int64_t step = 0, last = 0; step < steps; ++step) {
    const int64_t best = best_labels(output, sample * steps + step, 1)[0].index;
    if (best != 0 && best != last) reading.push_back(best);
    last = best;
  }
  return reading;
}

std::string text_of(const std::vector<int64_t>& reading, const std::string& characters) {
  std::vector<std::string_view> lines;
  for (std::string_view rest = characters; !rest.empty();) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.push_back(line);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  std::string text;
  for (const int64_t index : reading)
    text += index <= static_cast<int64_t>(lines.size()) ? lines[index - 1] : std::string_view(" ");
  return text;
}

Json readings_json(const io::TensorRecord& output, const std::string& characters) {
  Json readings = Json::array();
  for (int64_t sample = 0; sample < output.shape[0]; ++sample) {
    const std::vector<int64_t> reading = reading_of(output, sample);
    Json entry = {{"classes", reading}};
    if (!characters.empty()) entry["text"] = text_of(reading, characters);
    readings.push_back(std::move(entry));
  }
  return readings;
}

void print_readings(const io::TensorRecord& output, const std::string& characters) {
  for (int64_t sample = 0; sample < output.shape[0]; ++sample) {
    const std::vector<int64_t> reading = reading_of(output, sample);
    if (characters.empty()) {
      fmt::print("  sample {}: reads classes {}\n", sample, fmt::join(reading, " "));
    } else {
      fmt::print("  sample {}: reads '{}'\n", sample, text_of(reading, characters));
    }
  }
}

void print_output(const OutputFlags& flags, const io::TensorRecord& output, const std::string& file,
                  const std::string& characters) {
  fmt::print("{}: [{}]{}\n", output.name, fmt::join(output.shape, ", "),
             file.empty() ? "" : " -> " + file);
  if (flags.labels > 0 && output.shape.size() == 2) {
    for (int64_t row = 0; row < output.shape[0]; ++row) {
      for (const Label& label : best_labels(output, row, flags.labels))
        fmt::print("  sample {}: class {} ({:g})\n", row, label.index, label.score);
    }
  } else if (flags.labels > 0 && has_labels(output)) {
    print_readings(output, characters);
  } else if (file.empty()) {
    for (int64_t i = 0; i < std::min(output.elements(), kPrintedNumbers); ++i)
      fmt::print("  {:g}\n", element(output, i));
  }
}

}  // namespace

std::vector<NetworkInput> inputs_of(const io::Network& network) {
  std::vector<NetworkInput> inputs;
  for (const int32_t id : network.inputs) {
    const io::NetworkValue& value = network.values[id];
    NetworkInput input{value.name, value.dtype, value.shape};
    if (value.constant) input.dtype = value.constant->record.dtype;
    inputs.push_back(std::move(input));
  }
  return inputs;
}

std::vector<io::TensorRecord> read_inputs(const std::vector<std::string>& texts,
                                          std::span<const NetworkInput> inputs,
                                          const std::string& network,
                                          const std::optional<data::Preprocess>& preprocess) {
  if (texts.empty()) {
    fail(ErrorCode::kInvalidArgument,
         "[run] '{}' is a network: give it its inputs (--input FILE.npy)", network);
  }
  std::vector<std::string> names;
  for (const NetworkInput& input : inputs) names.push_back(input.name);
  std::vector<io::TensorRecord> records;
  std::set<std::string> given;
  for (const std::string& text : texts) {
    const std::string name = input_name("--input", text, names, network);
    const NetworkInput& input = inputs[std::ranges::find(names, name) - names.begin()];
    if (!given.insert(name).second)
      fail(ErrorCode::kInvalidArgument, "[run] --input '{}': '{}' is given twice", text, name);
    const std::string file = input_value(text);
    io::TensorRecord record =
        is_picture(file) ? read_picture(file, input, preprocess) : io::read_npy(file);
    if (input.dtype && *input.dtype != record.dtype) {
      fail(ErrorCode::kInvalidArgument,
           "[run] --input '{}' holds {}, the network's input '{}' takes {}", text,
           codec::info(record.dtype).name, name, codec::info(*input.dtype).name);
    }
    check_shape(text, input, record);
    record.name = name;
    records.push_back(std::move(record));
  }
  return records;
}

std::optional<data::Preprocess> preprocess_of(const io::NetworkPackage& package) {
  if (package.metadata().preprocess.is_null()) return std::nullopt;
  try {
    return data::preprocess_from_json(package.metadata().preprocess, package.path().string());
  } catch (const Error& e) {
    throw Error(ErrorCode::kCorrupt, e.what());
  }
}

void check_outputs(const OutputFlags& flags, size_t outputs) {
  if (!is_one_file(flags) || outputs == 1) return;
  fail(ErrorCode::kInvalidArgument, "[run] -o '{}': the network has {} outputs; name a folder",
       flags.path, outputs);
}

void report_outputs(const OutputFlags& flags, std::span<const io::TensorRecord> outputs,
                    double seconds, const std::string& characters) {
  if (flags.labels > 0 && std::ranges::none_of(outputs, has_labels)) {
    fail(ErrorCode::kInvalidArgument,
         "[run] --labels: output '{}' of shape [{}] is neither [batch, classes] nor [batch, time, "
         "classes]",
         outputs[0].name, fmt::join(outputs[0].shape, ", "));
  }
  const bool one_file = is_one_file(flags);
  if (!flags.path.empty() && !one_file) fs::create_directories(flags.path);
  Json report = {{"seconds", seconds}, {"outputs", Json::array()}};
  for (const io::TensorRecord& output : outputs) {
    const fs::path path = flags.path.empty() ? fs::path()
                          : one_file         ? fs::path(flags.path)
                                             : fs::path(flags.path) / file_name(output.name);
    if (!path.empty()) io::write_npy(path, output.dtype, output.shape, output.bytes);
    Json entry = {{"name", output.name}, {"shape", output.shape}, {"file", path.string()}};
    if (flags.labels > 0 && output.shape.size() == 2)
      entry["labels"] = labels_json(output, flags.labels);
    if (flags.labels > 0 && output.shape.size() == 3 && has_labels(output))
      entry["readings"] = readings_json(output, characters);
    report["outputs"].push_back(std::move(entry));
    if (!flags.json) print_output(flags, output, path.string(), characters);
  }
  if (flags.json) fmt::print("{}\n", report.dump(2, ' ', false, Json::error_handler_t::replace));
}

}  // namespace packlight::cli
