#include "data/dataset.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <map>

#include "base/fail.h"
#include "data/idx.h"
#include "error_code.h"
#include "io/hostile.h"
#include "io/npy.h"
#include "temp_dir.h"
#include "test_paths.h"

namespace packlight::data {
namespace {

using codec::DType;
using test::Bytes;
using test::expect_error;
using test::TempDir;
using test::write_file;

constexpr ErrorCode kBad = ErrorCode::kInvalidArgument;

std::string big_endian(uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16),
          static_cast<char>(value >> 8), static_cast<char>(value)};
}

std::string idx(int type, std::initializer_list<uint32_t> shape, const std::string& data) {
  std::string out = {0, 0, static_cast<char>(type), static_cast<char>(shape.size())};
  for (const uint32_t dim : shape) out += big_endian(dim);
  return out + data;
}

// A PNG of one gray value, written here: stored blocks need no compressor.
std::string png(int height, int width, uint8_t value) {
  const auto chunk = [](const std::string& type, const std::string& data) {
    const std::string body = type + data;
    const auto crc =
        crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()));
    return big_endian(static_cast<uint32_t>(data.size())) + body +
           big_endian(static_cast<uint32_t>(crc));
  };
  std::string rows;
  for (int y = 0; y < height; ++y) rows += '\0' + std::string(width, static_cast<char>(value));
  std::string packed(compressBound(rows.size()), '\0');
  uLongf size = packed.size();
  compress(reinterpret_cast<Bytef*>(packed.data()), &size,
           reinterpret_cast<const Bytef*>(rows.data()), rows.size());
  packed.resize(size);
  const std::string header = big_endian(width) + big_endian(height) + std::string("\x8\0\0\0\0", 5);
  return "\x89PNG\r\n\x1a\n" + chunk("IHDR", header) + chunk("IDAT", packed) + chunk("IEND", "");
}

template <class T>
void write_array(const std::filesystem::path& path, DType dtype, const std::vector<int64_t>& shape,
                 const std::vector<T>& values) {
  io::write_npy(path, dtype, shape, std::as_bytes(std::span(values)));
}

std::vector<float> values(const Sample& sample) {
  const auto f32 = sample.inputs.at(0).array.f32();
  return {f32.begin(), f32.end()};
}

TEST(IdxTest, ReadsEveryTypeAndRefusesTheRest) {
  const auto parse = [](const std::string& text) {
    return parse_idx(std::as_bytes(std::span(text)), nullptr, "x.idx");
  };
  const std::string shorts = idx(0x0B, {2}, std::string("\1\2\xff\xfe", 4));
  const auto record = parse(shorts);
  EXPECT_EQ(record.dtype, DType::kI16);
  EXPECT_EQ(reinterpret_cast<const int16_t*>(record.bytes.data())[0], 258);
  EXPECT_EQ(reinterpret_cast<const int16_t*>(record.bytes.data())[1], -2);
  const auto refuse = [&](const std::string& text, ErrorCode code, const std::string& part) {
    expect_error(code, {"x.idx", part}, [&] { parse(text); });
  };
  refuse("\x1f\x8b more", ErrorCode::kUnsupported, "gzip");
  refuse("text", ErrorCode::kCorrupt, "two zero bytes");
  refuse("", ErrorCode::kCorrupt, "two zero bytes");
  refuse(idx(0x0A, {1}, "a"), ErrorCode::kCorrupt, "0x0a");
  refuse(idx(0x08, {}, "a"), ErrorCode::kCorrupt, "0 dimensions");
  refuse(idx(0x08, {3}, "ab"), ErrorCode::kCorrupt, "need 3");
  refuse(idx(0x08, {3}, "abcd"), ErrorCode::kCorrupt, "need 3");
  refuse(idx(0x0E, {~0u, ~0u, ~0u}, ""), ErrorCode::kCorrupt, "overflow");
  const std::string whole = idx(0x0D, {2, 1}, "abcdefgh");
  const auto bytes = std::as_bytes(std::span(whole));
  const auto entry = [](std::span<const std::byte> b) { parse_idx(b, nullptr, "x"); };
  test::expect_truncations_refused(bytes, bytes.size(), entry);
  test::try_mutations(bytes, bytes.size(), entry);
}

TEST(IdxDatasetTest, HeldOutSamplesAreTheTestPair) {
  const TempDir dir;
  const auto pair = [&](const std::string& prefix, uint32_t samples) {
    write_file(dir / (prefix + "-images-idx3-ubyte"),
               idx(8, {samples, 1, 1}, std::string(samples, 'x')));
    write_file(dir / (prefix + "-labels-idx1-ubyte"), idx(8, {samples}, std::string(samples, 1)));
  };
  pair("train", 3);
  EXPECT_FALSE(has_test_pair(dir.path()));
  EXPECT_EQ(open_dataset(dir.path(), {.held_out = true})->size(), 3);
  pair("t10k", 2);
  EXPECT_TRUE(has_test_pair(dir.path()));
  EXPECT_EQ(open_dataset(dir.path(), {.held_out = true})->size(), 2);
  EXPECT_EQ(open_dataset(dir.path())->size(), 3);
}

TEST(IdxDatasetTest, PairsImagesWithLabels) {
  const TempDir dir;
  write_file(dir / "t10k-images-idx3-ubyte", idx(8, {2, 1, 2}, std::string("\x00\xff\x33\x66", 4)));
  write_file(dir / "t10k-labels.idx1-ubyte", idx(8, {2}, "\x01\x02"));
  const auto dataset = open_idx_folder(dir.path(), "t10k");
  EXPECT_EQ(dataset->size(), 2);
  EXPECT_EQ(dataset->label_kind(), LabelKind::kClass);
  EXPECT_EQ(dataset->classes(), 3);
  const Sample sample = dataset->sample(1);
  EXPECT_EQ(sample.inputs[0].array.shape, (std::vector<int64_t>{1, 1, 2}));
  EXPECT_FLOAT_EQ(values(sample)[0], 0.2f);
  EXPECT_FLOAT_EQ(values(sample)[1], 0.4f);
  EXPECT_EQ(std::get<int64_t>(sample.label), 2);
  expect_error(kBad, {"2 of 2"}, [&] { dataset->sample(2); });
  EXPECT_EQ(open_dataset(dir.path(), {.held_out = true})->size(), 2);
  expect_error(ErrorCode::kNotFound, {"train-images-idx3-ubyte"},
               [&] { open_idx_folder(dir.path(), "train"); });
  expect_error(kBad, {"t10k-labels", "sample 1", "class 2", "0 .. 1"},
               [&] { open_idx_folder(dir.path(), "t10k", {.classes = 2}); });
}

TEST(IdxDatasetTest, RefusesUnequalLengthsAndNothing) {
  const TempDir dir;
  write_file(dir / "i", idx(8, {2, 1, 1}, "ab"));
  write_file(dir / "l", idx(8, {3}, "abc"));
  write_file(dir / "none", idx(8, {0, 28, 28}, ""));
  write_file(dir / "flat", idx(8, {2}, "ab"));
  expect_error(kBad, {"3 labels for 2 samples"}, [&] { open_idx(dir / "i", dir / "l"); });
  expect_error(kBad, {"zero samples"}, [&] { open_idx(dir / "none", {}); });
  expect_error(kBad, {"[2]", "no pictures"}, [&] { open_idx(dir / "flat", {}); });
  EXPECT_EQ(open_idx(dir / "i", {})->label_kind(), LabelKind::kNone);
}

TEST(MnistTest, AllSeventyThousandSamplesAreThere) {
  const auto folder = test::cache_dir() / "mnist";
  if (!std::filesystem::exists(folder / "train-images-idx3-ubyte"))
    GTEST_SKIP() << folder << " is missing: run scripts/fetch_mnist";
  std::map<std::string, int64_t> sizes;
  int64_t fives = 0;
  double sum = 0;
  for (const std::string prefix : {"train", "t10k"}) {
    const auto dataset = open_idx_folder(folder, prefix, {.labels = LabelKind::kClass});
    EXPECT_EQ(dataset->classes(), 10);
    sizes[prefix] = dataset->size();
    for (int64_t i = 0; i < dataset->size(); ++i) {
      const Sample sample = dataset->sample(i);
      ASSERT_EQ(sample.inputs[0].array.shape, (std::vector<int64_t>{1, 28, 28}));
      fives += std::get<int64_t>(sample.label) == 5;
      if (prefix == "train")
        for (const float x : sample.inputs[0].array.f32()) sum += x;
    }
  }
  EXPECT_EQ(sizes["train"], 60000);
  EXPECT_EQ(sizes["t10k"], 10000);
  EXPECT_EQ(fives, 5421 + 892);                         // as published with the set
  EXPECT_NEAR(sum / (60000.0 * 784), 0.1307, 0.00005);  // the mean that everyone normalises with
}

TEST(ArrayDatasetTest, HandsArraysOnWithTheirLabels) {
  const TempDir dir;
  write_array<double>(dir / "x.npy", DType::kF64, {3, 2}, {1, 2, 3, 4, 5, 6});
  write_array<int32_t>(dir / "class.npy", DType::kI32, {3}, {0, 2, 1});
  write_array<int16_t>(dir / "sequence.npy", DType::kI16, {3, 2}, {1, 2, 3, 4, 5, 6});
  write_array<float>(dir / "vector.npy", DType::kF32, {3, 1}, {0.5f, 1.5f, 2.5f});
  const auto classes = open_npy(dir / "x.npy", dir / "class.npy", {.labels = LabelKind::kClass});
  EXPECT_EQ(classes->classes(), 3);
  EXPECT_EQ(values(classes->sample(1)), (std::vector<float>{3, 4}));
  EXPECT_EQ(std::get<int64_t>(classes->sample(1).label), 2);
  EXPECT_EQ(classes->sample_name(1), "sample 1 of '" + (dir / "x.npy").string() + "'");
  const auto sequences = open_npy(dir / "x.npy", dir / "sequence.npy");
  EXPECT_EQ(std::get<std::vector<int64_t>>(sequences->sample(2).label),
            (std::vector<int64_t>{5, 6}));
  const auto vectors = open_npy(dir / "x.npy", dir / "vector.npy");
  EXPECT_EQ(std::get<std::vector<float>>(vectors->sample(0).label), std::vector<float>{0.5f});
  EXPECT_EQ(open_npy(dir / "x.npy", {})->sample(0).label.index(), 0u);
  expect_error(kBad, {"vector.npy", "float vectors", "classes are wanted"},
               [&] { open_npy(dir / "x.npy", dir / "vector.npy", {.labels = LabelKind::kClass}); });
  // Bytes with their channels in front are pictures, too: [1, 3, 1, 2], red 1 2, green 3 4, blue
  // 5 6.
  write_array<uint8_t>(dir / "planes.npy", DType::kU8, {1, 3, 1, 2}, {1, 2, 3, 4, 5, 6});
  Preprocess steps;
  steps.scale = 2;
  steps.mean = {1, 2, 3};
  const auto planes = open_npy(dir / "planes.npy", {}, {.preprocess = steps});
  EXPECT_EQ(planes->sample(0).inputs[0].array.shape, (std::vector<int64_t>{3, 1, 2}));
  EXPECT_EQ(values(planes->sample(0)), (std::vector<float>{1, 3, 4, 6, 7, 9}));
  expect_error(kBad, {"no pictures", "F64"},
               [&] { open_npy(dir / "x.npy", {}, {.preprocess = Preprocess{}}); });
  expect_error(kBad, {"four dimensions"},
               [&] { open_npy(dir / "x.npy", {}, {.array_layout = Layout::kNchw}); });
}

TEST(ArrayDatasetTest, RefusesBrokenLabels) {
  const TempDir dir;
  write_array<float>(dir / "x.npy", DType::kF32, {2}, {1, 2});
  write_array<float>(dir / "none.npy", DType::kF32, {0, 4}, {});
  write_array<float>(dir / "scalar.npy", DType::kF32, {}, {1});
  write_array<int64_t>(dir / "short.npy", DType::kI64, {1}, {1});
  write_array<int64_t>(dir / "negative.npy", DType::kI64, {2}, {1, -1});
  expect_error(kBad, {"short.npy", "1 labels for 2"},
               [&] { open_npy(dir / "x.npy", dir / "short.npy"); });
  expect_error(kBad, {"negative.npy", "sample 1", "class -1"},
               [&] { open_npy(dir / "x.npy", dir / "negative.npy"); });
  expect_error(kBad, {"none.npy", "zero samples"}, [&] { open_npy(dir / "none.npy", {}); });
  write_array<float>(dir / "thin.npy", DType::kF32, {int64_t{1} << 62, 0}, {});
  expect_error(kBad, {"thin.npy", "zero elements"}, [&] { open_npy(dir / "thin.npy", {}); });
  expect_error(kBad, {"scalar.npy", "zero samples"}, [&] { open_npy(dir / "scalar.npy", {}); });
}

TEST(ArrayDatasetTest, TakesBytesAsPicturesWhenAsked) {
  const TempDir dir;
  write_array<uint8_t>(dir / "x.npy", DType::kU8, {1, 1, 2, 3}, {0, 1, 2, 3, 4, 5});
  Preprocess spec;
  spec.scale = 1;
  const auto dataset = open_npy(dir / "x.npy", {}, {.preprocess = spec});
  EXPECT_EQ(values(dataset->sample(0)), (std::vector<float>{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(dataset->picture_format()->black.size(), 3u);
  EXPECT_EQ(open_npy(dir / "x.npy", {})->sample(0).inputs[0].array.dtype, DType::kU8);
}

TEST(ArrayFolderTest, EachFileIsASampleOfItsOwnShape) {
  TempDir folder;
  write_array<float>(folder / "b.npy", DType::kF32, {1, 2, 3}, {1, 2, 3, 4, 5, 6});
  write_array<float>(folder / "a.npy", DType::kF32, {1, 2, 1}, {7, 8});
  write_file(folder / "notes.txt", "ignored");
  const auto dataset = open_dataset(folder.path());
  ASSERT_EQ(dataset->size(), 2);
  EXPECT_EQ(dataset->label_kind(), LabelKind::kNone);
  const Sample first = dataset->sample(0), second = dataset->sample(1);
  EXPECT_EQ(first.inputs.at(0).name, "");
  EXPECT_EQ(first.inputs[0].array.shape, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(first.inputs[0].array.f32()[1], 8);
  EXPECT_EQ(second.inputs.at(0).array.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_NE(dataset->sample_name(1).find("b.npy"), std::string::npos);
}

TEST(ArrayFolderTest, RefusesBatchesLabelsAndMixtures) {
  TempDir folder;
  write_array<float>(folder / "two.npy", DType::kF32, {2, 1}, {1, 2});
  expect_error(kBad, {"two.npy", "[2, 1]", "batch dimension of 1"},
               [&] { open_dataset(folder.path())->sample(0); });
  expect_error(kBad, {"no labels"}, [&] {
    DatasetOptions options;
    options.labels = LabelKind::kClass;
    open_dataset(folder.path(), options);
  });
  write_file(folder / "more.npz", "");
  expect_error(kBad, {".npy and .npz"}, [&] { open_dataset(folder.path()); });
}

TEST(PictureFolderTest, SortsClassesAndPicturesByName) {
  const TempDir dir;
  for (const char* name : {"b", "a", ".hidden"}) std::filesystem::create_directory(dir / name);
  write_file(dir / "b/2.PNG", png(1, 1, 20));
  write_file(dir / "b/1.png", png(1, 1, 10));
  write_file(dir / "b/readme.txt", "text");
  write_file(dir / "a/z.png", png(1, 1, 30));
  Preprocess spec;
  spec.scale = 1;
  spec.channels = Channels::kGray;
  const auto dataset = open_dataset(dir.path(), {.preprocess = spec});
  EXPECT_EQ(dataset->class_names(), (std::vector<std::string>{"a", "b"}));
  ASSERT_EQ(dataset->size(), 3);
  const std::vector<std::pair<float, int64_t>> want = {{30, 0}, {10, 1}, {20, 1}};
  for (int64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(values(dataset->sample(i)), std::vector<float>{want[i].first});
    EXPECT_EQ(std::get<int64_t>(dataset->sample(i).label), want[i].second);
  }
  const auto plain = open_dataset(dir / "b");
  EXPECT_EQ(plain->label_kind(), LabelKind::kNone);
  EXPECT_EQ(plain->sample(0).inputs[0].array.shape, (std::vector<int64_t>{3, 1, 1}));
  expect_error(kBad, {"class 1", "0 .. 0"}, [&] { open_dataset(dir.path(), {.classes = 1}); });
}

TEST(PictureFolderTest, RefusesEmptyMixedAndBroken) {
  const TempDir dir;
  expect_error(kBad, {dir.path().string(), "empty folder"}, [&] { open_dataset(dir.path()); });
  std::filesystem::create_directory(dir / "a");
  expect_error(kBad, {(dir / "a").string(), "empty class folder"},
               [&] { open_dataset(dir.path()); });
  write_file(dir / "a/x.png", png(40, 40, 1).substr(0, 60));
  write_file(dir / "a/y.jpg", "no picture");
  write_file(dir / "a/z.png", "");
  const auto dataset = open_dataset(dir.path());
  expect_error(ErrorCode::kCorrupt, {"a/x.png"}, [&] { dataset->sample(0); });
  expect_error(ErrorCode::kCorrupt, {"a/y.jpg"}, [&] { dataset->sample(1); });
  expect_error(ErrorCode::kCorrupt, {"a/z.png"}, [&] { dataset->sample(2); });
  write_file(dir / "beside.png", png(1, 1, 1));
  expect_error(kBad, {"both", "beside.png"}, [&] { open_dataset(dir.path()); });
  expect_error(ErrorCode::kNotFound, {"/nowhere"}, [] { open_dataset("/nowhere"); });
  expect_error(ErrorCode::kNotFound, {"/nowhere"}, [] { open_picture_folder("/nowhere"); });
}

TEST(PictureTest, RefusesHugePicturesAndSurvivesMutations) {
  std::string huge = png(1, 1, 1);
  huge.replace(16, 8, big_endian(16000) + big_endian(16000));
  const auto decode = [](std::span<const std::byte> b) { decode_picture(b, "p.png"); };
  expect_error(ErrorCode::kUnsupported, {"p.png", "16000 x 16000"},
               [&] { decode(std::as_bytes(std::span(huge))); });
  huge.replace(16, 4, big_endian(1 << 24));
  expect_error(ErrorCode::kCorrupt, {"p.png"}, [&] { decode(std::as_bytes(std::span(huge))); });
  const std::string good = png(3, 4, 9);
  const auto bytes = std::as_bytes(std::span(good));
  EXPECT_TRUE(test::parses(bytes, decode));
  test::try_mutations(bytes, bytes.size(), decode);
}

// A table of 16 * 96 symbols, where 256 have room: stb_image wrote behind it.
TEST(PictureTest, RefusesAJpegOfMoreSymbolsThanBytesHave) {
  const std::string jpeg = std::string("\xff\xd8\xff\xc4\x40\x00\x00", 7) + std::string(16, '\x60');
  expect_error(ErrorCode::kCorrupt, {"p.jpg"},
               [&] { decode_picture(std::as_bytes(std::span(jpeg)), "p.jpg"); });
}

class ListTest : public testing::Test {
 protected:
  ListTest() {
    write_file(dir_ / "a.png", png(1, 1, 1));
    write_file(dir_ / "b c.png", png(1, 1, 2));
  }
  std::unique_ptr<Dataset> open(const std::string& text, const DatasetOptions& options = {}) {
    write_file(dir_ / "list.txt", text);
    return open_dataset(dir_ / "list.txt", options);
  }
  TempDir dir_;
};

TEST_F(ListTest, ReadsPathsAndLabels) {
  const auto classes = open("a.png 1\r\n\nb c.png\t0\n");
  EXPECT_EQ(classes->size(), 2);
  EXPECT_EQ(classes->classes(), 2);
  EXPECT_EQ(std::get<int64_t>(classes->sample(1).label), 0);
  EXPECT_NEAR(values(classes->sample(1))[0], 2 / 255.0, 1e-8);
  using Sequence = std::vector<int64_t>;
  EXPECT_EQ(std::get<Sequence>(open("a.png 1 2,3\na.png 4")->sample(1).label), Sequence{4});
  EXPECT_EQ(std::get<Sequence>(open("a.png 4", {.labels = LabelKind::kSequence})->sample(0).label),
            Sequence{4});
  EXPECT_EQ(std::get<std::vector<float>>(open("a.png 1 2.5\na.png 3 4")->sample(1).label),
            (std::vector<float>{3, 4}));
  EXPECT_EQ(open("a.png\n")->label_kind(), LabelKind::kNone);
  EXPECT_EQ(open("a.png x\n", {.labels = LabelKind::kNone})->label_kind(), LabelKind::kNone);
  DatasetOptions options;
  options.encode_label = [](std::string_view text) {
    if (text == "bad") fail(kBad, "no such character");
    return Sequence(text.begin(), text.end());
  };
  EXPECT_EQ(std::get<Sequence>(open("b c.png\tA B", options)->sample(0).label),
            (Sequence{'A', ' ', 'B'}));
  expect_error(kBad, {"list.txt' line 2", "no such character"},
               [&] { open("\na.png\tbad", options); });
}

TEST_F(ListTest, RefusesByLine) {
  const auto refuse = [&](const std::string& text, std::initializer_list<std::string> parts,
                          const DatasetOptions& options = {}) {
    SCOPED_TRACE(text);
    expect_error(kBad, parts, [&] { open(text, options); });
  };
  refuse("\n\n", {"zero samples"});
  refuse("a.png 1\na.png cat\n", {"line 2", "'cat'"});
  refuse("a.png 1\na.png nan\n", {"line 2", "'nan'"});
  refuse("a.png 1\na.png -1\n", {"line 2", "class -1"});
  refuse("a.png 1\na.png 7\n", {"line 2", "class 7", "0 .. 4"}, {.classes = 5});
  refuse("a.png 1\na.png\n", {"line 2", "no labels", "classes"});
  refuse("a.png 1.5 2\na.png 3\n", {"line 2", "1 numbers", "have 2"});
  refuse("a.png 1.5\n", {"float vectors", "classes are wanted"}, {.labels = LabelKind::kClass});
  refuse("a.png\n", {"no labels", "classes are wanted"}, {.labels = LabelKind::kClass});
  refuse("\t1\n", {"line 1", "no path"});
  const auto missing = open("gone.png 1\n");
  expect_error(ErrorCode::kNotFound, {"gone.png"}, [&] { missing->sample(0); });
}

}  // namespace
}  // namespace packlight::data
