#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "data/array.h"
#include "data/preprocess.h"

namespace packlight::data {

// One input of a sample, without the batch dimension. The name is empty when the data name none: it
// is then the model's only input.
struct Field {
  std::string name;
  Array array;
};

enum class LabelKind { kNone, kClass, kVector, kSequence };

// none; class index, 0 .. classes-1; float vector; sequence of integers (characters, tokens).
using Label = std::variant<std::monostate, int64_t, std::vector<float>, std::vector<int64_t>>;

struct Sample {
  std::vector<Field> inputs;  // the same names in the same order for every sample of a dataset
  Label label;
};

// What augmentation must know to handle a sample's only input as a picture.
struct PictureFormat {
  Layout layout;
  std::vector<float> black;  // a black pixel after normalisation, for each channel
};

// A fixed set of samples. const methods may be called by several threads at once.
class Dataset {
 public:
  virtual ~Dataset() = default;

  virtual int64_t size() const = 0;  // >= 1
  // 0 <= index < size() (Error InvalidArgument otherwise). Errors: those of a file read for this
  // sample, which is named.
  virtual Sample sample(int64_t index) const = 0;
  virtual LabelKind label_kind() const = 0;
  // Number of classes: what the options say, else the folders, else the largest label + 1; 0 when
  // labels are no classes.
  virtual int64_t classes() const = 0;
  // The folders' names, for class folders; empty otherwise.
  virtual std::vector<std::string> class_names() const { return {}; }
  // For messages: "'digits/3/x.png'", "sample 17 of 'x.npy'".
  virtual std::string sample_name(int64_t index) const = 0;
  // nullopt when samples are no pictures.
  virtual std::optional<PictureFormat> picture_format() const { return std::nullopt; }
};

struct DatasetOptions {
  // What labels must be; absent: what they are. kNone ignores labels.
  std::optional<LabelKind> labels = {};
  // Labels must be below it; 0: not known.
  int64_t classes = 0;
  // For pictures and IDX images (absent there: Preprocess's defaults). Arrays of NPY and NPZ are
  // handed on as they are without it; with it they must be U8 pictures, [n, height, width], [n,
  // height, width, 1 or 3] or [n, 1 or 3, height, width], of three channels RGB.
  std::optional<Preprocess> preprocess = {};
  // Of pictures, where `preprocess` says none; absent: RGB for files, those they have for arrays.
  std::optional<Channels> picture_channels = {};
  // Arrays of which none is U8 are handed on as they are all the same: they are inputs already.
  bool ready_arrays = false;
  // For arrays without `preprocess`: they are pictures of this layout, black is 0, so they may be
  // augmented.
  std::optional<Layout> array_layout = {};
  // For list files: turns what stands after the path into a sequence (text recognition). Its errors
  // are given the file and line.
  std::function<std::vector<int64_t>(std::string_view)> encode_label = {};
  // Of a folder that has both of MNIST's pairs, the one to measure on.
  bool held_out = false;
};

// Errors of all: NotFound, Io, Corrupt (a broken file), and InvalidArgument by name for: inputs and
// labels of unequal length; a class below 0 or not below `classes`; float labels, or labels of
// another rank, where classes are wanted; zero samples; an empty folder.

// MNIST's pairs: images U8 [n, height, width], labels U8 [n] (an empty path: none).
std::unique_ptr<Dataset> open_idx(const std::filesystem::path& images,
                                  const std::filesystem::path& labels,
                                  const DatasetOptions& options = {});
// The pair in `folder` by its usual names: PREFIX-images-idx3-ubyte and PREFIX-labels-idx1-ubyte
// (or with a dot before idx). `prefix`: "train" or "t10k".
std::unique_ptr<Dataset> open_idx_folder(const std::filesystem::path& folder,
                                         const std::string& prefix,
                                         const DatasetOptions& options = {});

// Whether the folder holds MNIST's test pair (t10k).
bool has_test_pair(const std::filesystem::path& folder);

// One NPY array of inputs, batch first, and one of labels (an empty path: none). Labels: integers
// [n] are classes, integers [n, k] are sequences, floats [n] or [n, ...] are vectors (flattened).
std::unique_ptr<Dataset> open_npy(const std::filesystem::path& inputs,
                                  const std::filesystem::path& labels,
                                  const DatasetOptions& options = {});
// Every array is an input of the array's name, batch first, except the one called "labels" (or
// "label", or "y").
std::unique_ptr<Dataset> open_npz(const std::filesystem::path& path,
                                  const DatasetOptions& options = {});

// Folders of PNG and JPEG files (.png, .jpg, .jpeg in any case; other files are ignored): class
// folders in the byte order of their names, pictures in that of theirs; or a folder of pictures
// without classes. Hidden names are ignored.
std::unique_ptr<Dataset> open_picture_folder(const std::filesystem::path& folder,
                                             const DatasetOptions& options = {});
// A text file of lines "path<TAB>label" or, where a line has no tab, "path label" (the path then
// ends at the first space); paths are relative to the list's folder; empty lines are skipped. A
// label is one integer (class), several integers (sequence) or numbers with a fraction (vector),
// separated by spaces or commas; all lines alike.
std::unique_ptr<Dataset> open_picture_list(const std::filesystem::path& list,
                                           const DatasetOptions& options = {});

// A folder of .npy or of .npz files, in the byte order of their names; other files are ignored. Each
// file is one sample with a batch dimension of 1 in front, and shapes may differ from file to file
// (networks of free sizes: batches of 1 then). NPZ: every array is an input of the array's name.
// There are no labels.
std::unique_ptr<Dataset> open_array_folder(const std::filesystem::path& folder,
                                           const DatasetOptions& options = {});

// Chooses by what is there: .npy, .npz, another file as a picture list, a folder with IDX files as
// MNIST's training set (its test set where options.held_out and has_test_pair()), a folder with .npy or .npz files as arrays, any other folder as pictures. Errors: NotFound, and those of the choice.
std::unique_ptr<Dataset> open_dataset(const std::filesystem::path& path,
                                      const DatasetOptions& options = {});

}  // namespace packlight::data
