// Datasets of picture files: class folders, plain folders, list files.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/fail.h"
#include "base/mapped_file.h"
#include "data/dataset.h"
#include "data/labels.h"

namespace packlight::data {
namespace {

namespace fs = std::filesystem;

class PictureDataset : public Dataset {
 public:
  PictureDataset(std::vector<fs::path> paths, Labels labels, std::vector<std::string> class_names,
                 Preprocessor preprocessor)
      : paths_(std::move(paths)),
        labels_(std::move(labels)),
        class_names_(std::move(class_names)),
        preprocessor_(std::move(preprocessor)) {}

  int64_t size() const override { return static_cast<int64_t>(paths_.size()); }
  Sample sample(int64_t index) const override {
    if (index < 0 || index >= size())
      fail(ErrorCode::kInvalidArgument, "[data] picture {} of {}", index, size());
    const fs::path& path = paths_[index];
    Sample sample;
    sample.inputs.push_back({"", preprocessor_.apply(read_picture(path), path.string())});
    sample.label = labels_.at(index);
    return sample;
  }
  LabelKind label_kind() const override { return labels_.kind(); }
  int64_t classes() const override { return labels_.classes(); }
  std::vector<std::string> class_names() const override { return class_names_; }
  std::string sample_name(int64_t index) const override {
    return "'" + paths_.at(index).string() + "'";
  }
  std::optional<PictureFormat> picture_format() const override {
    return PictureFormat{preprocessor_.layout(), preprocessor_.black()};
  }

 private:
  std::vector<fs::path> paths_;
  Labels labels_;
  std::vector<std::string> class_names_;
  Preprocessor preprocessor_;
};

std::unique_ptr<Dataset> make_pictures(std::vector<fs::path> paths, Labels labels,
                                       std::vector<std::string> class_names,
                                       const DatasetOptions& options) {
  return std::make_unique<PictureDataset>(
      std::move(paths), std::move(labels), std::move(class_names),
      Preprocessor(options.preprocess.value_or(Preprocess{}),
                   options.picture_channels.value_or(Channels::kRgb)));
}

bool is_picture_name(const fs::path& path) {
  std::string extension = path.extension().string();
  for (char& c : extension) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return extension == ".png" || extension == ".jpg" || extension == ".jpeg";
}

struct Listing {
  std::vector<fs::path> folders, pictures;  // in the byte order of their names
};

Listing list_folder(const fs::path& folder) {
  Listing listing;
  try {
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (entry.path().filename().string().starts_with('.')) continue;
      if (entry.is_directory()) {
        listing.folders.push_back(entry.path());
      } else if (is_picture_name(entry.path())) {
        listing.pictures.push_back(entry.path());
      }
    }
  } catch (const fs::filesystem_error& e) {
    const bool missing = e.code() == std::errc::no_such_file_or_directory;
    fail(missing ? ErrorCode::kNotFound : ErrorCode::kIo, "[data] '{}': {}", folder.string(),
         e.code().message());
  }
  const auto by_name = [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); };
  std::sort(listing.folders.begin(), listing.folders.end(), by_name);
  std::sort(listing.pictures.begin(), listing.pictures.end(), by_name);
  return listing;
}

// One number of a label: an integer, or a fraction.
bool read_integer(std::string_view word, int64_t& value) {
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  return error == std::errc() && end == word.data() + word.size();
}
bool read_float(std::string_view word, float& value) {
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  return error == std::errc() && end == word.data() + word.size() && std::isfinite(value);
}

Label parse_label(std::string_view text, const std::string& where) {
  std::vector<int64_t> integers;
  std::vector<float> floats;
  bool all_integers = true;
  constexpr std::string_view kSeparators = " ,\t";
  for (size_t at = text.find_first_not_of(kSeparators); at != std::string_view::npos;) {
    const size_t end = std::min(text.find_first_of(kSeparators, at), text.size());
    const std::string_view word = text.substr(at, end - at);
    int64_t integer = 0;
    float number = 0;
    if (!read_float(word, number)) {
      fail(ErrorCode::kInvalidArgument,
           "[data] {}: label '{}' is no number: integers or decimal fractions are wanted", where,
           word);
    }
    if (read_integer(word, integer)) {
      integers.push_back(integer);
    } else {
      all_integers = false;
    }
    floats.push_back(number);
    at = text.find_first_not_of(kSeparators, end);
  }
  if (floats.empty()) return {};
  if (!all_integers) return floats;
  if (integers.size() == 1) return integers[0];
  return integers;
}

struct ListLine {
  std::string_view path, label;
};

ListLine split_line(std::string_view line) {
  size_t split = line.find('\t');
  if (split == std::string_view::npos) split = line.find(' ');
  if (split == std::string_view::npos) return {line, {}};
  return {line.substr(0, split), line.substr(split + 1)};
}

// Among sequences a single integer is a sequence of one, among vectors integers are numbers too.
void unify_kinds(std::vector<Label>& labels) {
  const auto any = [&](LabelKind kind) {
    return std::any_of(labels.begin(), labels.end(),
                       [&](const Label& label) { return kind_of(label) == kind; });
  };
  if (any(LabelKind::kNone)) return;  // an error to come
  if (any(LabelKind::kVector)) {
    for (Label& label : labels) {
      if (const auto* one = std::get_if<int64_t>(&label)) {
        label = std::vector<float>{static_cast<float>(*one)};
      } else if (const auto* many = std::get_if<std::vector<int64_t>>(&label)) {
        label = std::vector<float>(many->begin(), many->end());
      }
    }
  } else if (any(LabelKind::kSequence)) {
    for (Label& label : labels) {
      if (const auto* one = std::get_if<int64_t>(&label)) label = std::vector<int64_t>{*one};
    }
  }
}

// Where all labels are integers, sequences or vectors may still be what is wanted.
void widen_classes(std::vector<Label>& labels, std::optional<LabelKind> wanted) {
  if (wanted != LabelKind::kSequence && wanted != LabelKind::kVector) return;
  for (Label& label : labels) {
    const auto* one = std::get_if<int64_t>(&label);
    if (one == nullptr) continue;
    if (wanted == LabelKind::kSequence) {
      label = std::vector<int64_t>{*one};
    } else {
      label = std::vector<float>{static_cast<float>(*one)};
    }
  }
}

Label encode(const DatasetOptions& options, std::string_view text, const std::string& where) {
  try {
    return options.encode_label(text);
  } catch (const Error& e) {
    throw Error(e.code(), one_line(fmt::format("[data] {}: {}", where, e.what())));
  }
}

}  // namespace

std::unique_ptr<Dataset> open_picture_folder(const fs::path& folder,
                                             const DatasetOptions& options) {
  const Listing top = list_folder(folder);
  if (top.folders.empty() && top.pictures.empty()) {
    fail(ErrorCode::kInvalidArgument,
         "[data] '{}': an empty folder: no class folders, no PNG or JPEG", folder.string());
  }
  if (top.folders.empty()) {
    const std::vector<Label> none(top.pictures.size());
    const std::vector<std::string> wheres(top.pictures.size());
    return make_pictures(top.pictures, Labels::from_list(none, wheres, options, folder.string()),
                         {}, options);
  }
  if (!top.pictures.empty()) {
    fail(ErrorCode::kInvalidArgument,
         "[data] '{}': both class folders and pictures beside them ('{}')", folder.string(),
         top.pictures[0].filename().string());
  }
  std::vector<fs::path> paths;
  std::vector<Label> labels;
  std::vector<std::string> wheres, names;
  for (size_t c = 0; c < top.folders.size(); ++c) {
    const Listing inside = list_folder(top.folders[c]);
    if (inside.pictures.empty()) {
      fail(ErrorCode::kInvalidArgument, "[data] '{}': an empty class folder: no PNG or JPEG in it",
           top.folders[c].string());
    }
    names.push_back(top.folders[c].filename().string());
    for (const fs::path& picture : inside.pictures) {
      paths.push_back(picture);
      labels.emplace_back(static_cast<int64_t>(c));
      wheres.push_back("'" + picture.string() + "'");
    }
  }
  DatasetOptions with_classes = options;
  if (options.classes == 0) with_classes.classes = static_cast<int64_t>(names.size());
  Labels checked = Labels::from_list(std::move(labels), wheres, with_classes, folder.string());
  return make_pictures(std::move(paths), std::move(checked), std::move(names), options);
}

std::unique_ptr<Dataset> open_picture_list(const fs::path& list, const DatasetOptions& options) {
  const auto file = base::MappedFile::open(list);
  std::string_view text(reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size());
  std::vector<fs::path> paths;
  std::vector<Label> labels;
  std::vector<std::string> wheres;
  for (int64_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    const std::string where = fmt::format("'{}' line {}", list.string(), number);
    if (line.find('\0') != std::string_view::npos)
      fail(ErrorCode::kCorrupt, "[data] {}: a zero byte: this is no text", where);
    const auto [path, label] = split_line(line);
    if (path.empty())
      fail(ErrorCode::kInvalidArgument, "[data] {}: no path before the label", where);
    paths.push_back(list.parent_path() / path);
    if (options.labels == LabelKind::kNone) {
      labels.emplace_back();
    } else {
      labels.push_back(options.encode_label ? encode(options, label, where)
                                            : parse_label(label, where));
    }
    wheres.push_back(where);
  }
  if (paths.empty())
    fail(ErrorCode::kInvalidArgument, "[data] '{}': zero samples: the list is empty",
         list.string());
  unify_kinds(labels);
  widen_classes(labels, options.labels);
  Labels checked = Labels::from_list(std::move(labels), wheres, options, list.string());
  return make_pictures(std::move(paths), std::move(checked), {}, options);
}

bool has_test_pair(const fs::path& folder) {
  std::error_code error;
  return fs::exists(folder / "t10k-images-idx3-ubyte", error) ||
         fs::exists(folder / "t10k-images.idx3-ubyte", error);
}

std::unique_ptr<Dataset> open_dataset(const fs::path& path, const DatasetOptions& options) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status))
    fail(ErrorCode::kNotFound, "[data] '{}': no such file or folder", path.string());
  if (fs::is_directory(status)) {
    if (options.held_out && has_test_pair(path)) return open_idx_folder(path, "t10k", options);
    for (const char* name : {"train-images-idx3-ubyte", "train-images.idx3-ubyte"}) {
      if (fs::exists(path / name, error)) return open_idx_folder(path, "train", options);
    }
    for (const auto& entry : fs::directory_iterator(path, error)) {
      const fs::path extension = entry.path().extension();
      if (extension == ".npy" || extension == ".npz") return open_array_folder(path, options);
    }
    return open_picture_folder(path, options);
  }
  if (path.extension() == ".npy") return open_npy(path, {}, options);
  if (path.extension() == ".npz") return open_npz(path, options);
  return open_picture_list(path, options);
}

}  // namespace packlight::data
