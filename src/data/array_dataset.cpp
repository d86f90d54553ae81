// Datasets of arrays in one file: IDX, NPY, NPZ.
#include <algorithm>
#include <array>

#include "base/fail.h"
#include "data/dataset.h"
#include "data/idx.h"
#include "data/labels.h"
#include "data/npz.h"
#include "io/npy.h"

namespace packlight::data {
namespace {

void check_index(int64_t index, int64_t size, const std::string& origin) {
  if (index < 0 || index >= size) {
    fail(ErrorCode::kInvalidArgument, "[data] '{}': sample {} of {}", origin, index, size);
  }
}

int64_t check_samples(const io::TensorRecord& record, const std::string& origin) {
  if (record.shape.empty() || record.shape[0] == 0) {
    fail(ErrorCode::kInvalidArgument, "[data] '{}': zero samples (array '{}' has shape {})", origin,
         record.name, shape_text(record.shape));
  }
  if (record.elements() == 0) {
    fail(ErrorCode::kInvalidArgument,
         "[data] '{}': samples of zero elements (array '{}' has shape {})", origin, record.name,
         shape_text(record.shape));
  }
  return record.shape[0];
}

// What all have: labels, and a file to name.
class LabelledDataset : public Dataset {
 public:
  LabelledDataset(int64_t size, Labels labels, std::string origin)
      : size_(size), labels_(std::move(labels)), origin_(std::move(origin)) {}
  int64_t size() const override { return size_; }
  LabelKind label_kind() const override { return labels_.kind(); }
  int64_t classes() const override { return labels_.classes(); }
  std::string sample_name(int64_t index) const override {
    return fmt::format("sample {} of '{}'", index, origin_);
  }

 protected:
  int64_t size_;
  Labels labels_;
  std::string origin_;
};

// Arrays handed on as they are.
class ArrayDataset : public LabelledDataset {
 public:
  ArrayDataset(std::vector<io::TensorRecord> inputs, Labels labels, std::string origin,
               std::optional<PictureFormat> format)
      : LabelledDataset(inputs[0].shape[0], std::move(labels), std::move(origin)),
        inputs_(std::move(inputs)),
        format_(std::move(format)) {}

  Sample sample(int64_t index) const override {
    check_index(index, size_, origin_);
    Sample sample;
    for (const io::TensorRecord& input : inputs_) {
      std::vector<int64_t> shape(input.shape.begin() + 1, input.shape.end());
      const int64_t width = input.elements() / size_;
      sample.inputs.push_back({input.name, convert(input, index * width, std::move(shape))});
    }
    sample.label = labels_.at(index);
    return sample;
  }
  std::optional<PictureFormat> picture_format() const override { return format_; }

 private:
  std::vector<io::TensorRecord> inputs_;
  std::optional<PictureFormat> format_;
};

struct PictureShape {
  int64_t height, width, channels;
  bool planes;  // channels come first
};

// Of an array of pictures; nothing where its shape is none. Channels last where both could be.
std::optional<PictureShape> picture_shape(const std::vector<int64_t>& shape) {
  const auto colours = [](int64_t channels) { return channels == 1 || channels == 3; };
  std::optional<PictureShape> found;
  if (shape.size() == 3) found = {shape[1], shape[2], 1, false};
  if (shape.size() == 4 && colours(shape[3])) {
    found = {shape[1], shape[2], shape[3], false};
  } else if (shape.size() == 4 && colours(shape[1])) {
    found = {shape[2], shape[3], shape[1], true};
  }
  const bool sized = found && found->height >= 1 && found->width >= 1 &&
                     found->height <= kMaxPictureSide && found->width <= kMaxPictureSide &&
                     found->height * found->width <= kMaxPicturePixels;
  return sized ? found : std::nullopt;
}

// U8 pictures [n, height, width], [n, height, width, channels] or [n, channels, height, width].
class PictureArrayDataset : public LabelledDataset {
 public:
  PictureArrayDataset(io::TensorRecord pictures, Labels labels, Preprocessor preprocessor,
                      std::string origin)
      : LabelledDataset(pictures.shape[0], std::move(labels), std::move(origin)),
        pictures_(std::move(pictures)),
        preprocessor_(std::move(preprocessor)) {}

  Sample sample(int64_t index) const override {
    check_index(index, size_, origin_);
    const auto& shape = pictures_.shape;
    const PictureShape of = *picture_shape(shape);
    Picture picture{
        static_cast<int>(of.height), static_cast<int>(of.width), static_cast<int>(of.channels), {}};
    const int64_t area = of.height * of.width, count = area * of.channels;
    const auto* begin = reinterpret_cast<const uint8_t*>(pictures_.bytes.data()) + index * count;
    picture.pixels.assign(begin, begin + count);
    if (of.planes) {
      for (int64_t i = 0; i < count; ++i)
        picture.pixels[i] = begin[i % of.channels * area + i / of.channels];
    }
    Sample sample;
    sample.inputs.push_back(
        {pictures_.name, preprocessor_.apply(std::move(picture), sample_name(index))});
    sample.label = labels_.at(index);
    return sample;
  }
  std::optional<PictureFormat> picture_format() const override {
    return PictureFormat{preprocessor_.layout(), preprocessor_.black()};
  }

 private:
  io::TensorRecord pictures_;
  Preprocessor preprocessor_;
};

std::unique_ptr<Dataset> picture_arrays(io::TensorRecord record, Labels labels,
                                        const Preprocess& spec, const std::string& origin) {
  const auto& shape = record.shape;
  const auto of = picture_shape(shape);
  if (!of || record.dtype != codec::DType::kU8) {
    fail(ErrorCode::kInvalidArgument,
         "[data] '{}': {} {} are no pictures: U8 [n, height, width], [n, height, width, 1 or 3] or "
         "[n, 1 or 3, height, width] is wanted, at most {} a side",
         origin, codec::info(record.dtype).name, shape_text(shape), kMaxPictureSide);
  }
  Preprocessor preprocessor(spec, of->channels == 1 ? Channels::kGray : Channels::kRgb);
  return std::make_unique<PictureArrayDataset>(std::move(record), std::move(labels),
                                               std::move(preprocessor), origin);
}

std::optional<PictureFormat> array_format(const std::vector<io::TensorRecord>& inputs,
                                          const DatasetOptions& options,
                                          const std::string& origin) {
  if (!options.array_layout) return std::nullopt;
  const io::TensorRecord& input = inputs[0];
  if (inputs.size() != 1 || input.shape.size() != 4 ||
      buffer_dtype(input.dtype, origin) != codec::DType::kF32) {
    fail(ErrorCode::kInvalidArgument,
         "[data] '{}': pictures are one array of floats and four dimensions, not {} of {} {}",
         origin, inputs.size(), codec::info(input.dtype).name, shape_text(input.shape));
  }
  const int64_t channels = input.shape[*options.array_layout == Layout::kNchw ? 1 : 3];
  // A hostile shape such as [0 bytes, 2^62 channels, ...] must not become an allocation.
  if (channels > kMaxPictureSide) {
    fail(ErrorCode::kInvalidArgument, "[data] '{}': {} channels, at most {}", origin, channels,
         kMaxPictureSide);
  }
  return PictureFormat{*options.array_layout, std::vector<float>(channels, 0.0f)};
}

std::unique_ptr<Dataset> make_arrays(std::vector<io::TensorRecord> inputs,
                                     const io::TensorRecord* labels_record,
                                     const std::string& labels_origin,
                                     const DatasetOptions& options, const std::string& origin) {
  if (inputs.empty()) {
    fail(ErrorCode::kInvalidArgument, "[data] '{}': no array but labels: there are zero samples",
         origin);
  }
  const int64_t samples = check_samples(inputs[0], origin);
  for (const io::TensorRecord& input : inputs) {
    if (check_samples(input, origin) != samples) {
      fail(ErrorCode::kInvalidArgument,
           "[data] '{}': array '{}' holds {} samples, array '{}' {}: they must be equal", origin,
           inputs[0].name, samples, input.name, input.shape[0]);
    }
    buffer_dtype(input.dtype, origin);
  }
  Labels labels;
  if (labels_record != nullptr)
    labels = Labels::from_array(*labels_record, samples, options, labels_origin);
  const bool ready =
      options.ready_arrays && std::none_of(inputs.begin(), inputs.end(), [](const auto& input) {
        return input.dtype == codec::DType::kU8;
      });
  if (options.preprocess && !ready) {
    if (inputs.size() != 1) {
      fail(ErrorCode::kInvalidArgument,
           "[data] '{}': {} input arrays, preprocessing takes one of pictures", origin,
           inputs.size());
    }
    return picture_arrays(std::move(inputs[0]), std::move(labels), *options.preprocess, origin);
  }
  auto format = array_format(inputs, options, origin);
  return std::make_unique<ArrayDataset>(std::move(inputs), std::move(labels), origin,
                                        std::move(format));
}

std::filesystem::path find_idx(const std::filesystem::path& folder, const std::string& stem,
                               int rank) {
  for (const char* separator : {"-", "."}) {
    const auto path = folder / fmt::format("{}{}idx{}-ubyte", stem, separator, rank);
    std::error_code error;
    if (std::filesystem::exists(path, error)) return path;
  }
  fail(ErrorCode::kNotFound, "[data] '{}': no file {}-idx{}-ubyte in it", folder.string(), stem,
       rank);
}

}  // namespace

std::unique_ptr<Dataset> open_idx(const std::filesystem::path& images,
                                  const std::filesystem::path& labels,
                                  const DatasetOptions& options) {
  io::TensorRecord record = read_idx(images);
  record.name.clear();
  const int64_t samples = check_samples(record, images.string());
  Labels checked;
  if (!labels.empty())
    checked = Labels::from_array(read_idx(labels), samples, options, labels.string());
  return picture_arrays(std::move(record), std::move(checked),
                        options.preprocess.value_or(Preprocess{}), images.string());
}

std::unique_ptr<Dataset> open_idx_folder(const std::filesystem::path& folder,
                                         const std::string& prefix, const DatasetOptions& options) {
  const auto images = find_idx(folder, prefix + "-images", 3);
  return open_idx(images, find_idx(folder, prefix + "-labels", 1), options);
}

std::unique_ptr<Dataset> open_npy(const std::filesystem::path& inputs,
                                  const std::filesystem::path& labels,
                                  const DatasetOptions& options) {
  std::vector<io::TensorRecord> records;
  records.push_back(io::read_npy(inputs));
  records[0].name.clear();
  std::optional<io::TensorRecord> labels_record;
  if (!labels.empty()) labels_record = io::read_npy(labels);
  return make_arrays(std::move(records), labels_record ? &*labels_record : nullptr, labels.string(),
                     options, inputs.string());
}

std::unique_ptr<Dataset> open_npz(const std::filesystem::path& path,
                                  const DatasetOptions& options) {
  std::vector<io::TensorRecord> inputs;
  std::optional<io::TensorRecord> labels;
  for (io::TensorRecord& record : read_npz(path)) {
    if (record.name != "labels" && record.name != "label" && record.name != "y") {
      inputs.push_back(std::move(record));
    } else if (labels) {
      fail(ErrorCode::kInvalidArgument, "[data] '{}': both '{}' and '{}' would be the labels",
           path.string(), labels->name, record.name);
    } else {
      labels = std::move(record);
    }
  }
  const std::string labels_origin = labels ? path.string() + ":" + labels->name : "";
  return make_arrays(std::move(inputs), labels ? &*labels : nullptr, labels_origin, options,
                     path.string());
}

}  // namespace packlight::data
