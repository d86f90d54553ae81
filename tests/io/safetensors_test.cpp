#include "io/safetensors.h"

#include <gtest/gtest.h>

#include "error_code.h"
#include "io/hostile.h"
#include "temp_dir.h"

namespace packlight::io {
namespace {

using codec::DType;
using test::Bytes;
using test::expect_error;
using test::TempDir;

Bytes with_header(const std::string& header, size_t data_bytes) {
  return test::ByteBuilder().put<uint64_t>(header.size()).text(header).zeros(data_bytes).bytes();
}

SafetensorsFile parse(std::span<const std::byte> bytes) {
  return parse_safetensors(bytes, nullptr, "file");
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape +
         "],\"data_offsets\":[" + offsets + "]}";
}

void expect_refused(const std::string& header, size_t data_bytes, ErrorCode code,
                    std::initializer_list<std::string> parts) {
  SCOPED_TRACE(header);
  expect_error(code, parts, [&] { parse(with_header(header, data_bytes)); });
}

TEST(SafetensorsTest, WritesWhatItReads) {
  const TempDir dir;
  const std::vector<float> a = {1, 2, 3, 4, 5, 6};
  const std::vector<uint16_t> b = {7, 8};
  const std::vector<std::byte> padding(12);
  const std::vector<TensorToWrite> tensors = {
      {"a", DType::kF32, {2, 3}, {std::as_bytes(std::span(a))}},
      {"b \"q\"\n", DType::kBF16, {2}, {std::as_bytes(std::span(b))}},
      {"padded", DType::kU8, {16}, {std::as_bytes(std::span(b)), padding}},
      {"none", DType::kF32, {0, 4}, {}},
      {"scalar", DType::kF32, {}, {std::as_bytes(std::span(a)).first(4)}}};
  write_safetensors(dir / "x.safetensors", tensors, {{"key", "\u00e9\u4e2d"}});
  const SafetensorsFile file = read_safetensors(dir / "x.safetensors");
  ASSERT_EQ(file.tensors.size(), tensors.size());
  EXPECT_EQ(file.metadata.at("key"), "\u00e9\u4e2d");
  for (const TensorToWrite& want : tensors) {
    const TensorRecord* got = file.find(want.name);
    ASSERT_NE(got, nullptr) << want.name;
    EXPECT_EQ(got->dtype, want.dtype);
    EXPECT_EQ(got->shape, want.shape);
    Bytes bytes;
    for (const auto chunk : want.chunks) bytes.insert(bytes.end(), chunk.begin(), chunk.end());
    EXPECT_EQ(Bytes(got->bytes.begin(), got->bytes.end()), bytes) << want.name;
  }
  EXPECT_EQ(file.find("c"), nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(file.find("a")->bytes.data()) % 64, 0u);
}

TEST(SafetensorsTest, RecordsBecomeMatrices) {
  const SafetensorsFile file = parse(with_header("{" + entry("w", "F32", "2,3,4", "0,96") + "," +
                                                     entry("v", "F32", "5", "96,116") + "," +
                                                     entry("s", "F32", "", "116,120") + "}",
                                                 120));
  EXPECT_EQ(file.find("w")->encoded().rows, 6);
  EXPECT_EQ(file.find("w")->encoded().cols, 4);
  EXPECT_EQ(file.find("v")->encoded().rows, 1);
  EXPECT_EQ(file.find("v")->encoded().cols, 5);
  EXPECT_EQ(file.find("s")->encoded().cols, 1);
}

TEST(SafetensorsTest, MisalignedDataIsCopiedAndRight) {
  // A header of odd length puts the floats at an odd offset.
  std::string header = "{" + entry("w", "F32", "2", "0,8") + "}";
  if (header.size() % 2 == 0) header += ' ';
  Bytes bytes =
      test::ByteBuilder().put<uint64_t>(header.size()).text(header).put(1.5f).put(-2.0f).bytes();
  const SafetensorsFile file = parse(bytes);
  const auto* values = reinterpret_cast<const float*>(file.tensors[0].bytes.data());
  ASSERT_EQ(reinterpret_cast<uintptr_t>(values) % alignof(float), 0u);
  EXPECT_EQ(values[0], 1.5f);
  EXPECT_EQ(values[1], -2.0f);
  EXPECT_NE(file.tensors[0].owner, nullptr);  // the copy lives on
}

TEST(SafetensorsTest, TensorsComeInTheOrderOfTheirBytes) {
  const SafetensorsFile file = parse(with_header(
      "{" + entry("b", "U8", "3", "2,5") + "," + entry("a", "U8", "2", "0,2") + "}", 5));
  EXPECT_EQ(file.tensors[0].name, "a");
  EXPECT_EQ(file.tensors[1].name, "b");
}

TEST(SafetensorsTest, RefusesMissingFiles) {
  expect_error(ErrorCode::kNotFound, {"/nowhere/x"}, [] { read_safetensors("/nowhere/x"); });
}

TEST(SafetensorsTest, RefusesBrokenLayouts) {
  const ErrorCode corrupt = ErrorCode::kCorrupt;
  const auto one = [](const std::string& dtype, const std::string& shape,
                      const std::string& offsets) {
    return "{" + entry("w", dtype, shape, offsets) + "}";
  };
  expect_refused(one("F32", "2", "0,8"), 4, corrupt, {"'w'", "4 bytes of data"});
  expect_refused(one("F32", "2", "0,8"), 9, corrupt, {"byte 8 of 9"});
  expect_refused(one("F32", "2", "1,9"), 9, corrupt, {"'w'", "1..9"});
  expect_refused(one("F32", "2", "8,0"), 8, corrupt, {"'w'"});
  expect_refused(one("F32", "3", "0,8"), 8, corrupt, {"'w'", "need 12"});
  expect_refused(one("F32", "2", "0"), 8, corrupt, {"'w'"});
  expect_refused(one("F32", "2", "0,8,8"), 8, corrupt, {"third offset"});
  expect_refused(one("F32", "-2", "0,8"), 8, corrupt, {"negative"});
  expect_refused(one("F32", "2.5", "0,8"), 8, corrupt, {"fraction"});
  expect_refused(one("F32", "18446744073709551615", "0,8"), 8, corrupt, {"absurd"});
  expect_refused(one("F32", "4611686018427387904,4", "0,0"), 0, corrupt, {"'w'", "overflow"});
  expect_refused(one("F32", "0,4611686018427387904,4", "0,0"), 0, corrupt, {"'w'", "overflow"});
  expect_refused(one("F64", "2305843009213693952", "0,0"), 0, corrupt, {"'w'", "overflow"});
  expect_refused(one("F32", "1", "18446744073709551612,18446744073709551615"), 4, corrupt, {"'w'"});
  const std::string overlap = entry("a", "U8", "4", "0,4") + "," + entry("b", "U8", "4", "2,6");
  expect_refused("{" + overlap + "}", 6, corrupt, {"'b'", "2..6"});
  const std::string hole = entry("a", "U8", "2", "0,2") + "," + entry("b", "U8", "2", "4,6");
  expect_refused("{" + hole + "}", 6, corrupt, {"'b'", "byte 2"});
  expect_refused(one("F8_E4M3", "1", "0,1"), 1, ErrorCode::kUnsupported, {"'w'", "F8_E4M3"});
}

TEST(SafetensorsTest, RefusesBrokenHeaders) {
  const ErrorCode corrupt = ErrorCode::kCorrupt;
  expect_refused("{" + entry("w", "U8", "1", "0,1") + "," + entry("w", "U8", "1", "1,2") + "}", 2,
                 corrupt, {"'w' twice"});
  expect_refused(R"({"w":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0,
                 corrupt, {"twice"});
  expect_refused(R"({"__metadata__":{"a":"1","a":"2"}})", 0, corrupt, {"'a' twice"});
  expect_refused(R"({"__metadata__":{},"__metadata__":{}})", 0, corrupt, {"twice"});
  expect_refused(R"({"__metadata__":{"a":1}})", 0, corrupt, {"number"});
  expect_refused(R"({"__metadata__":"text"})", 0, corrupt, {"text"});
  expect_refused(R"({"w":{"shape":[0],"data_offsets":[0,0]}})", 0, corrupt, {"'w'", "missing"});
  expect_refused(R"({"w":{"dtype":"U8","shape":[[0]],"data_offsets":[0,0]}})", 0, corrupt,
                 {"list"});
  expect_refused(R"({"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"more":null}})", 0, corrupt,
                 {"more"});
  expect_refused(R"({"w":[]})", 0, corrupt, {"list"});
  expect_refused(R"([])", 0, corrupt, {"{"});
  expect_refused(R"({)", 0, corrupt, {"json"});
  expect_refused("{\"\xff\":1}", 0, corrupt, {"json"});
  expect_refused("", 0, corrupt, {"{"});
  expect_refused("{" + std::string(100000, '['), 0, corrupt, {"json"});
}

TEST(SafetensorsTest, RefusesAbsurdHeaderSizes) {
  for (const uint64_t size : {uint64_t{9}, uint64_t{1} << 40, UINT64_MAX, UINT64_MAX - 7}) {
    const Bytes bytes = test::ByteBuilder().put(size).text("{}").zeros(6).bytes();
    expect_error(ErrorCode::kCorrupt, {"header", "16"}, [&] { parse(bytes); });
  }
}

TEST(SafetensorsTest, EveryTruncationIsRefusedAndNoMutationCrashes) {
  const std::string header = "{\"__metadata__\":{\"k\":\"v\"}," + entry("a", "F32", "2,2", "0,16") +
                             "," + entry("b", "F16", "3", "16,22") + "}";
  const Bytes bytes = with_header(header, 22);
  test::expect_truncations_refused(bytes, bytes.size(), [](auto b) { parse(b); });
  test::try_mutations(bytes, bytes.size(), [](auto b) { parse(b); });
}

TEST(SafetensorsTest, ManyTensorsTakeLinearTime) {
  std::string header = "{";
  for (int i = 0; i < 200000; ++i)
    header += entry("tensor." + std::to_string(i), "U8", "0", "0,0") + ",";
  header.back() = '}';
  EXPECT_EQ(parse(with_header(header, 0)).tensors.size(), 200000u);
}

TEST(SafetensorsWriterTest, RefusesWhatTheFormatCannotHold) {
  const TempDir dir;
  const std::vector<float> a = {1, 2};
  const auto bytes = std::as_bytes(std::span(a));
  const auto refuse = [&](std::vector<TensorToWrite> tensors,
                          std::initializer_list<std::string> parts) {
    expect_error(ErrorCode::kInvalidArgument, parts,
                 [&] { write_safetensors(dir / "x", tensors, {}); });
    EXPECT_FALSE(std::filesystem::exists(dir / "x"));
  };
  refuse({{"a", DType::kF32, {3}, {bytes}}}, {"'a'", "need 12"});
  refuse({{"a", DType::kF32, {2}, {bytes}}, {"a", DType::kF32, {2}, {bytes}}}, {"'a'", "taken"});
  refuse({{"__metadata__", DType::kF32, {2}, {bytes}}}, {"taken"});
  refuse({{"a", DType::kQ4_0, {32}, {bytes}}}, {"Q4_0"});
  refuse({{"u", DType::kU8, {3}, {bytes.first(3)}}, {"a", DType::kF32, {2}, {bytes}}},
         {"'a'", "misaligned"});
  refuse({{"\xff", DType::kF32, {2}, {bytes}}}, {"UTF-8"});
}

}  // namespace
}  // namespace packlight::io
