// Files that NumPy and Pillow wrote, and ONNX Runtime's resizing, against ours.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "data/npz.h"
#include "data/picture.h"
#include "io/npy.h"
#include "temp_dir.h"
#include "text/run_oracle.h"

namespace packlight::data {
namespace {

using Bytes = std::vector<std::byte>;

class DataOracleTest : public testing::Test {
 protected:
  void SetUp() override {
    PACKLIGHT_NEEDS(test::oracle_python());
    test::run_oracle("make_data.py", "'" + dir_.path().string() + "'");
  }
  Bytes expected(const std::string& name) const { return test::read_file(dir_ / (name + ".bin")); }

  test::TempDir dir_;
};

TEST_F(DataOracleTest, ReadsNumPysArrays) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(dir_.path())) {
    if (entry.path().extension() != ".npy") continue;
    const io::TensorRecord record = io::read_npy(entry.path());
    EXPECT_EQ(record.shape, (std::vector<int64_t>{3, 4, 5}));
    EXPECT_EQ(Bytes(record.bytes.begin(), record.bytes.end()), expected(record.name))
        << record.name;
    ++files;
  }
  EXPECT_EQ(files, 36);  // 9 types, 2 byte orders, 2 layouts
}

TEST_F(DataOracleTest, ReadsNumPysArchives) {
  for (const char* name : {"stored.npz", "deflated.npz"}) {
    const auto records = read_npz(dir_ / name);
    EXPECT_EQ(records.size(), 36u);
    for (const io::TensorRecord& record : records) {
      EXPECT_EQ(Bytes(record.bytes.begin(), record.bytes.end()), expected(record.name))
          << name << " " << record.name;
    }
  }
}

TEST_F(DataOracleTest, DecodesPicturesAsPillowDoes) {
  // PNG is exact. Two JPEG decoders may differ by 1 in each of Y, Cb, Cr (ITU-T T.83's accuracy of
  // the inverse transform), which the conversion to blue, Y + 1.772 Cb, makes at most 2.8, and
  // rounding 3.
  const std::vector<std::tuple<std::string, int, int>> files = {
      {"rgb.png", 3, 0},    {"gray.png", 1, 0}, {"rgba.png", 3, 0},        {"palette.png", 3, 0},
      {"gray16.png", 1, 0}, {"rgb.jpg", 3, 3},  {"progressive.jpg", 3, 3}, {"gray.jpg", 1, 1}};
  for (const auto& [name, channels, bound] : files) {
    const Picture picture = read_picture(dir_ / name);
    const Bytes want = expected(name);
    EXPECT_EQ(picture.height, 37) << name;
    EXPECT_EQ(picture.width, 53) << name;
    ASSERT_EQ(picture.channels, channels) << name;
    ASSERT_EQ(picture.pixels.size(), want.size()) << name;
    for (size_t i = 0; i < want.size(); ++i) {
      ASSERT_LE(std::abs(picture.pixels[i] - std::to_integer<int>(want[i])), bound)
          << name << " at " << i << ": got " << int{picture.pixels[i]} << ", want "
          << std::to_integer<int>(want[i]);
    }
  }
  const Bytes luma = expected("luma");
  const Picture gray = to_gray(read_picture(dir_ / "rgb.png"));
  for (size_t i = 0; i < luma.size(); ++i)
    ASSERT_EQ(gray.pixels.at(i), std::to_integer<uint8_t>(luma[i])) << i;
}

TEST_F(DataOracleTest, ResizesAsOnnxRuntimeDoes) {
  const FloatPicture picture = to_float(read_picture(dir_ / "rgb.png"));
  for (const auto& [height, width] : {std::pair{20, 20}, std::pair{74, 60}, std::pair{5, 111}}) {
    const Bytes bytes = expected("resize_" + std::to_string(height) + "_" + std::to_string(width));
    std::vector<float> want(bytes.size() / sizeof(float));
    std::memcpy(want.data(), bytes.data(), bytes.size());
    const FloatPicture got = resize_bilinear(picture, height, width);
    ASSERT_EQ(got.pixels.size(), want.size());
    // The weights come from positions up to 111 in F32 there (error 111 eps), times differences up
    // to 255; about 6 more roundings of values up to 255.
    const float bound = (2 * 111 + 6) * 255 * 0x1p-24f;
    for (size_t i = 0; i < want.size(); ++i)
      ASSERT_LE(std::abs(got.pixels[i] - want[i]), bound)
          << height << " x " << width << " at " << i;
  }
}

}  // namespace
}  // namespace packlight::data
