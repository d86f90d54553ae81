#include "io/gguf.h"

#include <gtest/gtest.h>

#include <chrono>
#include <limits>

#include "error_code.h"
#include "io/gguf_types.h"
#include "io/hostile.h"
#include "temp_dir.h"
#include "test_paths.h"

namespace packlight::io {
namespace {

using codec::DType;
using test::ByteBuilder;
using test::Bytes;
using test::expect_error;
using test::TempDir;

GgufFile parse(std::span<const std::byte> bytes) { return parse_gguf(bytes, nullptr, "file"); }

void expect_refused(const ByteBuilder& file, ErrorCode code,
                    std::initializer_list<std::string> parts) {
  expect_error(code, parts, [&] { parse(file.bytes()); });
}

ByteBuilder head(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
  return ByteBuilder().put(kGgufMagic).put(version).put(tensors).put(keys);
}

void add_tensor(ByteBuilder& file, const std::string& name, const std::vector<uint64_t>& dims,
                uint32_t type, uint64_t offset) {
  file.string(name).put(static_cast<uint32_t>(dims.size()));
  for (const uint64_t dim : dims) file.put(dim);
  file.put(type).put(offset);
}

std::vector<std::pair<std::string, GgufValue>> every_kind_of_value() {
  const auto nested =
      std::vector<GgufValue>{{std::vector<int32_t>{1, -2}},
                             {std::vector<GgufValue>{{std::vector<std::string>{"deep"}}}},
                             {std::vector<int32_t>{}}};
  return {{"u8", {uint8_t{200}}},
          {"i8", {int8_t{-100}}},
          {"u16", {uint16_t{60000}}},
          {"i16", {int16_t{-30000}}},
          {"u32", {uint32_t{4000000000}}},
          {"i32", {int32_t{-2000000000}}},
          {"u64", {UINT64_MAX}},
          {"i64", {INT64_MIN}},
          {"f32", {1.5f}},
          {"f64", {-0.1}},
          {"bool", {true}},
          {"text", {std::string("\u00e9 \0 z", 5)}},
          {"list u8", {std::vector<uint8_t>{1, 255}}},
          {"list i8", {std::vector<int8_t>{-1, 127}}},
          {"list u16", {std::vector<uint16_t>{1, 65535}}},
          {"list i16", {std::vector<int16_t>{-1, 32767}}},
          {"list u32", {std::vector<uint32_t>{UINT32_MAX}}},
          {"list i32", {std::vector<int32_t>{INT32_MIN, 0, 7}}},
          {"list u64", {std::vector<uint64_t>{UINT64_MAX, 1}}},
          {"list i64", {std::vector<int64_t>{INT64_MIN}}},
          {"list f32", {std::vector<float>{0.5f, -2.0f}}},
          {"list f64", {std::vector<double>{1e300}}},
          {"list bool", {std::vector<bool>{true, false, true}}},
          {"list text", {std::vector<std::string>{"", "a", "bc"}}},
          {"empty list", {std::vector<float>{}}},
          {"nested", {nested}}};
}

bool equal(const GgufValue& a, const GgufValue& b) {
  if (a.value.index() != b.value.index()) return false;
  return std::visit(
      [&](const auto& x) {
        using T = std::decay_t<decltype(x)>;
        const T& y = std::get<T>(b.value);
        if constexpr (std::is_same_v<T, std::vector<GgufValue>>) {
          return std::equal(x.begin(), x.end(), y.begin(), y.end(), equal);
        } else {
          return x == y;
        }
      },
      a.value);
}

// The bytes of a file with every kind of value and a few tensors.
Bytes sample_file() {
  const TempDir dir;
  const std::vector<std::byte> bytes(5 * 18, std::byte{3});
  const std::vector<GgufTensorToWrite> tensors = {
      {"q", DType::kQ4_0, {5, 32}, bytes, nullptr},
      {"f", DType::kF32, {3}, std::span(bytes).first(12), nullptr},
      {"h", DType::kF16, {2, 2, 2, 2}, std::span(bytes).first(32), nullptr}};
  write_gguf(dir / "x.gguf", every_kind_of_value(), tensors);
  return test::read_file(dir / "x.gguf");
}

TEST(GgufTest, EveryKindOfMetadataSurvives) {
  const Bytes bytes = sample_file();
  const GgufFile file = parse(bytes);
  const auto want = every_kind_of_value();
  ASSERT_EQ(file.metadata.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(file.metadata[i].first, want[i].first);
    EXPECT_TRUE(equal(file.metadata[i].second, want[i].second)) << want[i].first;
  }
}

TEST(GgufTest, TensorsSurviveWithTheOutermostDimensionFirst) {
  const Bytes bytes = sample_file();
  const GgufFile file = parse(bytes);
  ASSERT_EQ(file.tensors.size(), 3u);
  EXPECT_EQ(file.tensors[0].shape, (std::vector<int64_t>{5, 32}));
  EXPECT_EQ(file.tensors[0].dtype, DType::kQ4_0);
  EXPECT_EQ(file.tensors[0].bytes.size(), 90u);
  EXPECT_EQ(file.tensors[0].bytes[89], std::byte{3});
  EXPECT_EQ(file.tensors[1].shape, (std::vector<int64_t>{3}));
  EXPECT_EQ(file.find_tensor("h")->encoded().rows, 8);
  EXPECT_EQ(file.find_tensor("x"), nullptr);
}

TEST(GgufTest, ProducedTensorsAreWrittenInOrder) {
  const TempDir dir;
  const std::vector<GgufTensorToWrite> tensors = {{"a", DType::kF32, {2}, {}, nullptr},
                                                  {"b", DType::kF32, {1}, {}, nullptr}};
  std::vector<size_t> asked;
  write_gguf(dir / "x", {}, tensors, [&](size_t i) {
    asked.push_back(i);
    return std::vector<std::byte>(i == 0 ? 8 : 4, static_cast<std::byte>(i + 1));
  });
  EXPECT_EQ(asked, (std::vector<size_t>{0, 1}));
  const GgufFile file = read_gguf(dir / "x");
  EXPECT_EQ(file.tensors[0].bytes[7], std::byte{1});
  EXPECT_EQ(file.tensors[1].bytes[3], std::byte{2});
  expect_error(ErrorCode::kInternal, {"'a'", "3 bytes"}, [&] {
    write_gguf(dir / "y", {}, tensors, [](size_t) { return std::vector<std::byte>(3); });
  });
  EXPECT_FALSE(std::filesystem::exists(dir / "y"));
}

TEST(GgufTest, ReadsVersion2AndOtherAlignments) {
  ByteBuilder file = head(1, 1, 2).string("general.alignment").put<uint32_t>(4).put<uint32_t>(8);
  add_tensor(file, "w", {2}, 0, 8);
  file.align(8).zeros(8).put(1.0f).put(2.0f);
  const Bytes bytes = file.bytes();
  const GgufFile parsed = parse(bytes);
  EXPECT_EQ(parsed.version, 2u);
  EXPECT_EQ(parsed.alignment, 8u);
  EXPECT_EQ(*reinterpret_cast<const float*>(parsed.tensors[0].bytes.data() + 4), 2.0f);
}

TEST(GgufTest, MisalignedTensorsAreCopied) {
  ByteBuilder file = head(1, 1).string("general.alignment").put<uint32_t>(4).put<uint32_t>(1);
  add_tensor(file, "w", {2}, 0, 0);
  if (file.bytes().size() % 4 == 0)
    add_tensor(file = head(1, 1).string("general.alignment").put<uint32_t>(4).put<uint32_t>(1),
               "wx", {2}, 0, 0);
  file.put(1.0f).put(2.0f);
  const Bytes bytes = file.bytes();
  const GgufFile parsed = parse(bytes);
  const auto* values = reinterpret_cast<const float*>(parsed.tensors[0].bytes.data());
  ASSERT_EQ(reinterpret_cast<uintptr_t>(values) % 4, 0u);
  EXPECT_EQ(values[1], 2.0f);
}

TEST(GgufTest, TypedAccess) {
  GgufFile file;
  file.path = "file";
  file.metadata = every_kind_of_value();
  EXPECT_EQ(file.integer("u8"), 200);
  EXPECT_EQ(file.integer("i64"), INT64_MIN);
  EXPECT_EQ(file.integer("none", 5), 5);
  EXPECT_EQ(file.number("f64"), -0.1);
  EXPECT_EQ(file.number("i8"), -100);
  EXPECT_EQ(file.number("none", 2.5), 2.5);
  EXPECT_TRUE(file.boolean("bool", false));
  EXPECT_EQ(file.text("none", "x"), "x");
  EXPECT_EQ(file.strings("list text")[2], "bc");
  const ErrorCode corrupt = ErrorCode::kCorrupt;
  expect_error(corrupt, {"file", "'none'", "missing"}, [&] { file.integer("none"); });
  expect_error(corrupt, {"'u64'", "2^63"}, [&] { file.integer("u64"); });
  expect_error(corrupt, {"'f32'"}, [&] { file.integer("f32"); });
  expect_error(corrupt, {"'bool'"}, [&] { file.integer("bool", 0); });
  expect_error(corrupt, {"'text'"}, [&] { file.number("text"); });
  expect_error(corrupt, {"'u8'"}, [&] { file.boolean("u8", true); });
  expect_error(corrupt, {"'u8'"}, [&] { file.text("u8"); });
  expect_error(corrupt, {"'list u8'"}, [&] { file.strings("list u8"); });
}

TEST(GgufTest, RefusesForeignFiles) {
  expect_error(ErrorCode::kNotFound, {"/nowhere"}, [] { read_gguf("/nowhere"); });
  expect_refused(ByteBuilder().text("GGML").zeros(60), ErrorCode::kCorrupt, {"magic"});
  expect_refused(head(0, 0, 1), ErrorCode::kUnsupported, {"version 1"});
  expect_refused(head(0, 0, 4), ErrorCode::kUnsupported, {"version 4"});
  expect_refused(head(0, 0, 0x03000000), ErrorCode::kUnsupported, {"big-endian", "version 3"});
}

TEST(GgufTest, RefusesAbsurdCounts) {
  const ErrorCode corrupt = ErrorCode::kCorrupt;
  for (const uint64_t count : {uint64_t{1000}, uint64_t{1} << 61, UINT64_MAX}) {
    SCOPED_TRACE(count);
    expect_refused(head(0, count).zeros(40), corrupt, {"metadata count"});
    expect_refused(head(count, 0).zeros(40), corrupt, {"tensors"});
    expect_refused(head(0, 1).put(count).zeros(40), corrupt, {"metadata key"});
    expect_refused(head(0, 1).string("k").put<uint32_t>(8).put(count).zeros(40), corrupt,
                   {"k needs"});
    for (const uint32_t type : {0u, 6u, 8u, 9u, 12u}) {
      expect_refused(head(0, 1).string("k").put<uint32_t>(9).put(type).put(count).zeros(40),
                     corrupt, {"k counts"});
    }
    ByteBuilder dims = head(1, 0);
    add_tensor(dims, "w", {count, 1, 1, 1}, 0, 0);
    expect_refused(dims.zeros(100), corrupt, {"'w'"});
  }
}

TEST(GgufTest, RefusesBrokenValues) {
  const ErrorCode corrupt = ErrorCode::kCorrupt;
  const auto value = [](uint32_t type) { return head(0, 1).string("k").put(type); };
  expect_refused(value(13).zeros(8), corrupt, {"'k'", "13"});
  expect_refused(value(7).put<uint8_t>(2).zeros(8), corrupt, {"'k'", "boolean 2"});
  expect_refused(value(9).put<uint32_t>(99).put<uint64_t>(0), corrupt, {"'k'", "99"});
  ByteBuilder deep = value(9);
  for (int i = 0; i < 100; ++i) deep.put<uint32_t>(9).put<uint64_t>(1);
  expect_refused(deep.zeros(100), corrupt, {"'k'", "nests"});
  expect_refused(
      head(0, 2).string("k").put<uint32_t>(0).put<uint8_t>(1).string("k").put<uint32_t>(0).zeros(9),
      corrupt, {"'k' twice"});
  for (const uint32_t alignment : {0u, 3u, 48u, 0x80000000u}) {
    const auto file = head(0, 1).string("general.alignment").put<uint32_t>(4).put(alignment);
    expect_refused(file, corrupt, {"alignment", std::to_string(alignment)});
  }
}

TEST(GgufTest, RefusesBrokenTensors) {
  const ErrorCode corrupt = ErrorCode::kCorrupt;
  const auto one = [](const std::vector<uint64_t>& dims, uint32_t type, uint64_t offset) {
    ByteBuilder file = head(1, 0);
    add_tensor(file, "w", dims, type, offset);
    return file.align(32).zeros(64);
  };
  expect_refused(one({17}, 0, 0), corrupt, {"'w'", "64 bytes"});
  expect_refused(one({4}, 0, 4), corrupt, {"'w'", "offset 4"});
  expect_refused(one({4}, 0, 64), corrupt, {"'w'", "offset 64"});
  expect_refused(one({4}, 0, UINT64_MAX - 31), corrupt, {"'w'"});
  expect_refused(one({33, 1}, 2, 0), corrupt, {"'w'", "33", "Q4_0"});
  expect_refused(one({1, 1, 1, 1, 1}, 0, 0), corrupt, {"'w'", "5 dimensions"});
  expect_refused(one({uint64_t{1} << 32, uint64_t{1} << 32}, 0, 0), corrupt, {"'w'", "overflow"});
  expect_refused(one({0, uint64_t{1} << 62, 8}, 0, 0), corrupt, {"'w'", "overflow"});
  expect_refused(one({32}, 23, 0), ErrorCode::kUnsupported, {"'w'", "IQ4_XS", "23"});
  expect_refused(one({32}, 12345, 0), ErrorCode::kUnsupported, {"'w'", "12345"});
  ByteBuilder twice = head(2, 0);
  add_tensor(twice, "w", {4}, 0, 0);
  add_tensor(twice, "w", {4}, 0, 32);
  expect_refused(twice.align(32).zeros(64), corrupt, {"'w' twice"});
  ByteBuilder overlap = head(2, 0);
  add_tensor(overlap, "a", {4}, 0, 32);
  add_tensor(overlap, "b", {9}, 0, 0);
  expect_refused(overlap.align(32).zeros(64), corrupt, {"'b'", "'a'", "overlap"});
}

TEST(GgufTest, EveryTruncationIsRefusedAndNoMutationCrashes) {
  const Bytes bytes = sample_file();
  const size_t needed = bytes.size();  // the last tensor has 32 bytes: no padding after it
  test::expect_truncations_refused(bytes, needed, [](auto b) { parse(b); });
  test::try_mutations(bytes, bytes.size(), [](auto b) { parse(b); });
}

TEST(GgufWriterTest, RefusesWhatTheFormatCannotHold) {
  const TempDir dir;
  const std::vector<std::byte> bytes(64);
  const auto refuse = [&](std::vector<GgufTensorToWrite> tensors,
                          std::vector<std::pair<std::string, GgufValue>> metadata,
                          std::initializer_list<std::string> parts) {
    expect_error(ErrorCode::kInvalidArgument, parts,
                 [&] { write_gguf(dir / "x", metadata, tensors); });
    EXPECT_FALSE(std::filesystem::exists(dir / "x"));
  };
  const auto tensor = [&](const std::string& name, std::vector<int64_t> shape,
                          DType dtype = DType::kF32) {
    return GgufTensorToWrite{name, dtype, std::move(shape), bytes, nullptr};
  };
  refuse({tensor("w", {15})}, {}, {"'w'", "64", "60"});
  refuse({tensor("w", {16}), tensor("w", {16})}, {}, {"'w' twice"});
  refuse({tensor(std::string(64, 'n'), {16})}, {}, {"63"});
  refuse({tensor("", {16})}, {}, {"63"});
  refuse({tensor("w", {})}, {}, {"0 dimensions"});
  refuse({tensor("w", {1, 1, 1, 1, 16})}, {}, {"5 dimensions"});
  refuse({tensor("w", {64}, DType::kU8)}, {}, {"U8"});
  refuse({tensor("w", {64}, DType::kTileInt4)}, {}, {"TILE_INT4"});
  refuse({}, {{"k", {1.0f}}, {"k", {2.0f}}}, {"'k' twice"});
  refuse({}, {{"general.alignment", {uint32_t{64}}}}, {"general.alignment"});
  refuse({}, {{"k", {std::vector<GgufValue>{{1.0f}}}}}, {"'k'", "no array"});
}

TEST(GgufRealFileTest, ReadsSmolLm) {
  if (!std::filesystem::exists(test::smollm_gguf())) GTEST_SKIP() << "run scripts/setup first";
  const GgufFile file = read_gguf(test::smollm_gguf());
  EXPECT_EQ(file.tensors.size(), 272u);
  EXPECT_EQ(file.text("general.architecture"), "llama");
  EXPECT_EQ(file.strings("tokenizer.ggml.tokens").size(), 49152u);
  EXPECT_EQ(file.find_tensor("token_embd.weight")->dtype, DType::kQ8_0);
  EXPECT_EQ(file.find_tensor("token_embd.weight")->shape, (std::vector<int64_t>{49152, 576}));
}

}  // namespace
}  // namespace packlight::io
