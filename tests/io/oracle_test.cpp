// Readers that others wrote, against ours: PyPI gguf and safetensors.
#include <gtest/gtest.h>

#include <bit>
#include <cstdlib>
#include <random>

#include "codec/ggml_blocks.h"
#include "codec/half.h"
#include "io/gguf.h"
#include "io/hostile.h"
#include "io/safetensors.h"
#include "io/tiny_package.h"
#include "temp_dir.h"
#include "test_paths.h"

namespace packlight::io {
namespace {

using codec::DType;
using test::Bytes;
using test::TempDir;

class OracleTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(python())) GTEST_SKIP() << "run scripts/setup --tests first";
  }
  static std::filesystem::path python() { return test::cache_dir() / "venv/bin/python"; }

  // Runs tests/oracle/SCRIPT with arguments; its exit code decides.
  static void run(const std::string& script, const std::string& arguments) {
    const std::string command =
        python().string() + " " PACKLIGHT_SOURCE_DIR "/tests/oracle/" + script + " " + arguments;
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
  }

  TempDir dir_;
};

// Random blocks whose F16 scales are finite, as in any file that a quantizer wrote; the codes take
// every value.
std::vector<std::byte> random_tensor(DType dtype, int64_t elements, std::mt19937& rng) {
  const codec::DTypeInfo& type = codec::info(dtype);
  std::vector<std::byte> bytes(elements / type.block_elements * type.block_bytes);
  for (std::byte& b : bytes) b = static_cast<std::byte>(rng());
  for (size_t i = 1; i < bytes.size(); i += 2) {
    // Whichever pairs are halves: an exponent that is not all ones. BF16 and F32 stay finite by the
    // same bits.
    if ((bytes[i] & std::byte{0x7c}) == std::byte{0x7c}) bytes[i] &= std::byte{0xbb};
  }
  return bytes;
}

TEST_F(OracleTest, EveryTypeDecodesAsInTheGgufPackage) {
  std::mt19937 rng(1);
  const DType types[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ4_0,
                         DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0,
                         DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};
  const std::vector<int64_t> shape = {37, 512};
  std::vector<std::vector<std::byte>> data;
  std::vector<GgufTensorToWrite> tensors;
  for (const DType dtype : types) {
    data.push_back(random_tensor(dtype, shape[0] * shape[1], rng));
    tensors.push_back({std::string(codec::info(dtype).name), dtype, shape, data.back(), nullptr});
  }
  write_gguf(dir_ / "x.gguf", {{"general.architecture", {std::string("test")}}}, tensors);
  run("decode_gguf.py", (dir_ / "x.gguf").string() + " " + (dir_ / "values").string());
  const Bytes expected = test::read_file(dir_ / "values");
  const GgufFile file = read_gguf(dir_ / "x.gguf");
  const size_t elements = shape[0] * shape[1];
  ASSERT_EQ(expected.size(), std::size(types) * elements * sizeof(float));
  std::vector<float> got(elements), want(elements);
  for (size_t t = 0; t < std::size(types); ++t) {
    codec::decode_rows(file.tensors[t].encoded(), 0, shape[0], got.data());
    std::memcpy(want.data(), expected.data() + t * elements * sizeof(float),
                elements * sizeof(float));
    for (size_t i = 0; i < elements; ++i) {
      ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(want[i]))
          << file.tensors[t].name << " element " << i << ": got " << got[i] << ", want " << want[i];
    }
  }
}

TEST_F(OracleTest, GgufPackageReadsWhatWeWrite) {
  // check_gguf.py holds the same values.
  const std::vector<std::pair<std::string, GgufValue>> metadata = {
      {"general.architecture", {std::string("llama")}},
      {"u8", {uint8_t{200}}},
      {"i8", {int8_t{-100}}},
      {"u16", {uint16_t{60000}}},
      {"i16", {int16_t{-30000}}},
      {"u32", {uint32_t{4000000000}}},
      {"i32", {int32_t{-2000000000}}},
      {"u64", {uint64_t{1} << 63}},
      {"i64", {INT64_MIN}},
      {"f32", {1.5f}},
      {"f64", {-0.1}},
      {"bool", {true}},
      {"text", {std::string("\u00e9\u4e2d")}},
      {"list i32", {std::vector<int32_t>{1, -2, 3}}},
      {"list f32", {std::vector<float>{0.5f}}},
      {"list bool", {std::vector<bool>{true, false}}},
      {"list text", {std::vector<std::string>{"a", "", "bc"}}}};
  std::vector<float> values(64);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const auto blocks = codec::encode_ggml_rows(DType::kQ8_0, values, 32);
  const std::vector<GgufTensorToWrite> tensors = {
      {"matrix", DType::kF32, {4, 16}, std::as_bytes(std::span(values)), nullptr},
      {"vector", DType::kF32, {3}, std::as_bytes(std::span(values)).first(12), nullptr},
      {"blocks", DType::kQ8_0, {2, 32}, blocks, nullptr}};
  write_gguf(dir_ / "x.gguf", metadata, tensors);
  run("check_gguf.py", (dir_ / "x.gguf").string());
}

TEST_F(OracleTest, SafetensorsPackageReadsWhatWeWriteAndWeWhatItWrites) {
  const std::vector<float> f32 = {1, 2, 3, 4, 5, 6};
  const std::vector<uint16_t> f16 = {codec::f32_to_f16(0.5f), codec::f32_to_f16(-2.0f)};
  const std::vector<int64_t> i64 = {-1, INT64_MAX};
  write_safetensors(
      dir_ / "ours",
      std::vector<TensorToWrite>{{"i64", DType::kI64, {2}, {std::as_bytes(std::span(i64))}},
                                 {"f32", DType::kF32, {2, 3}, {std::as_bytes(std::span(f32))}},
                                 {"f16", DType::kF16, {2}, {std::as_bytes(std::span(f16))}}},
      {{"k", "v \u00e9"}});
  run("check_safetensors.py", (dir_ / "ours").string() + " " + (dir_ / "theirs").string());
  const SafetensorsFile theirs = read_safetensors(dir_ / "theirs");
  const SafetensorsFile ours = read_safetensors(dir_ / "ours");
  ASSERT_EQ(theirs.tensors.size(), ours.tensors.size());
  EXPECT_EQ(theirs.metadata, ours.metadata);
  for (const TensorRecord& want : ours.tensors) {
    const TensorRecord* got = theirs.find(want.name);
    ASSERT_NE(got, nullptr) << want.name;
    EXPECT_EQ(got->shape, want.shape);
    EXPECT_EQ(got->dtype, want.dtype);
    EXPECT_EQ(Bytes(got->bytes.begin(), got->bytes.end()),
              Bytes(want.bytes.begin(), want.bytes.end()))
        << want.name;
  }
}

TEST_F(OracleTest, SafetensorsPackageReadsAPackage) {
  test::TinyPackage().write(dir_ / "x.plk");
  run("check_package.py", (dir_ / "x.plk").string());
}

}  // namespace
}  // namespace packlight::io
