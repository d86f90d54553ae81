// Datasets of one array file a sample.
#include <algorithm>

#include "base/fail.h"
#include "data/dataset.h"
#include "data/npz.h"
#include "io/npy.h"

namespace packlight::data {
namespace {

namespace fs = std::filesystem;

class ArrayFolder : public Dataset {
 public:
  explicit ArrayFolder(std::vector<fs::path> files) : files_(std::move(files)) {}

  int64_t size() const override { return static_cast<int64_t>(files_.size()); }
  LabelKind label_kind() const override { return LabelKind::kNone; }
  int64_t classes() const override { return 0; }
  std::string sample_name(int64_t index) const override {
    return fmt::format("'{}'", files_.at(index).string());
  }

  Sample sample(int64_t index) const override {
    if (index < 0 || index >= size())
      fail(ErrorCode::kInvalidArgument, "[data] sample {} of {}", index, size());
    const fs::path& file = files_[index];
    const bool single = file.extension() == ".npy";
    std::vector<io::TensorRecord> records;
    if (single) {
      records.push_back(io::read_npy(file));
      records[0].name.clear();
    } else {
      records = read_npz(file);
    }
    Sample sample;
    for (const io::TensorRecord& record : records) {
      if (record.shape.empty() || record.shape[0] != 1 || record.elements() == 0) {
        fail(ErrorCode::kInvalidArgument,
             "[data] '{}': array '{}' has shape {}; in a folder of arrays each is one sample, with "
             "a batch dimension of 1 in front",
             file.string(), record.name, shape_text(record.shape));
      }
      sample.inputs.push_back(
          {record.name, convert(record, 0, {record.shape.begin() + 1, record.shape.end()})});
    }
    return sample;
  }

 private:
  std::vector<fs::path> files_;
};

}  // namespace

std::unique_ptr<Dataset> open_array_folder(const fs::path& folder, const DatasetOptions& options) {
  if (options.labels && *options.labels != LabelKind::kNone) {
    fail(ErrorCode::kInvalidArgument, "[data] '{}': a folder of arrays has no labels",
         folder.string());
  }
  std::error_code error;
  std::vector<fs::path> files[2];
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const fs::path path = entry.path();
    if (path.filename().string().substr(0, 1) == "." || !entry.is_regular_file()) continue;
    if (path.extension() == ".npy") files[0].push_back(path);
    if (path.extension() == ".npz") files[1].push_back(path);
  }
  if (error) fail(ErrorCode::kIo, "[data] '{}': {}", folder.string(), error.message());
  if (!files[0].empty() && !files[1].empty()) {
    fail(ErrorCode::kInvalidArgument,
         "[data] '{}' holds .npy and .npz files: it must be one kind of them", folder.string());
  }
  std::vector<fs::path>& found = files[0].empty() ? files[1] : files[0];
  if (found.empty())
    fail(ErrorCode::kInvalidArgument, "[data] '{}': zero samples (no .npy or .npz file)",
         folder.string());
  std::sort(found.begin(), found.end());
  return std::make_unique<ArrayFolder>(std::move(found));
}

}  // namespace packlight::data
