#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "data/array.h"
#include "data/picture.h"

namespace packlight::data {

enum class Aspect { kNone, kPad, kCrop };
enum class PadAt { kStart, kCentre };
enum class Channels { kRgb, kBgr, kGray };
enum class Layout { kNchw, kNhwc };

struct Size {
  int height, width;  // 1 .. kMaxPictureSide
};

// How a picture becomes a model's input, in this order:
//   channels   gray, RGB or BGR (to_gray, to_rgb of picture.h)
//   resize     to [height, width], bilinear (resize_bilinear). keep_aspect none: stretched. pad:
//   scaled by the
//              smaller of the two ratios, sides rounded half up, the rest filled with pad_value.
//              crop: scaled by the larger, then its middle (offset rounded down) cut out.
//   crop       the middle [height, width] (offset rounded down); the picture must be at least that
//   large normalise  y = (x * scale - mean) / std for each output channel; x is 0 to 255 layout
//   nchw: [channels, height, width]; nhwc: [height, width, channels]
struct Preprocess {
  std::optional<Size> resize, crop;
  Aspect keep_aspect = Aspect::kNone;
  PadAt pad_at =
      PadAt::kCentre;   // where the picture lies: top left, or in the middle (rounded down)
  float pad_value = 0;  // 0 .. 255, before normalisation
  std::optional<Channels> channels;  // absent: RGB for picture files, gray for IDX and gray arrays
  double scale = 1.0 / 255;
  std::vector<double> mean;  // one for all channels, or one each in output order; empty: 0
  std::vector<double> std;   // the same, > 0; empty: 1
  Layout layout = Layout::kNchw;
};

// Reads a YAML file whose only top-level key is `preprocess`:
//   preprocess: {resize: [48, 320], keep_aspect: pad, pad_at: start, pad_value: 0, crop: [224,
//   224],
//                channels: rgb, scale: 0.0039215686, mean: [0.485, 0.456, 0.406], std: 0.229,
//                layout: nchw}
// Errors: NotFound, Io; InvalidArgument with file, key, value and rule for an unknown or doubled
// key, a value of another type or out of range, a mean or std whose length is neither 1 nor that of
// `channels`; Corrupt for text that is no YAML.
Preprocess read_preprocess(const std::filesystem::path& path);
Preprocess parse_preprocess(std::string_view text, const std::string& origin);

// The sidecar file of a model: its path with the extension replaced by .yaml (model.onnx ->
// model.yaml); nullopt when there is none. Errors: as read_preprocess().
std::optional<Preprocess> find_preprocess(const std::filesystem::path& model);

// The same as JSON, for a package: every field but those that are absent. Errors of the second:
// InvalidArgument as above.
Json preprocess_to_json(const Preprocess& spec);
Preprocess preprocess_from_json(const Json& json, const std::string& origin);

// Steps with every choice made. Cheap to copy; const methods may be called by any thread.
class Preprocessor {
 public:
  // `default_channels` when the spec names none. Errors: InvalidArgument for a mean or std whose
  // length is neither 1 nor the number of channels, or a std that is not > 0.
  Preprocessor(const Preprocess& spec, Channels default_channels);

  int channels() const { return channels_ == Channels::kGray ? 1 : 3; }
  Layout layout() const { return spec_.layout; }
  // What a black pixel becomes in each output channel.
  std::vector<float> black() const;

  // F32, [channels, height, width] or [height, width, channels]. Errors: InvalidArgument naming
  // `origin` when the picture is smaller than the crop.
  Array apply(Picture picture, const std::string& origin) const;

 private:
  FloatPicture resize(const FloatPicture& picture) const;
  float scale(int channel) const;
  float offset(int channel) const;

  Preprocess spec_;
  Channels channels_;
};

}  // namespace packlight::data
