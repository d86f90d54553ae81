#include "data/npz.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include "data/dataset.h"
#include "error_code.h"
#include "io/hostile.h"
#include "io/npy.h"
#include "temp_dir.h"

namespace packlight::data {
namespace {

using test::Bytes;
using test::expect_error;

Bytes npy(const std::vector<float>& values) {
  const test::TempDir dir;
  io::write_npy(dir / "x", codec::DType::kF32,
                std::vector<int64_t>{static_cast<int64_t>(values.size())},
                std::as_bytes(std::span(values)));
  return test::read_file(dir / "x");
}

Bytes deflated(const Bytes& bytes) {
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, -MAX_WBITS, 9, Z_DEFAULT_STRATEGY);
  Bytes out(deflateBound(&stream, bytes.size()));
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(bytes.data()));
  stream.avail_in = bytes.size();
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = out.size();
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

// What a directory says about an entry; tests change single fields.
struct Entry {
  std::string name;
  uint16_t flags = 0, method = 0;
  uint32_t crc = 0, packed_bytes = 0, bytes = 0, offset = 0;
};

class Zip {
 public:
  Zip& add(const std::string& name, const Bytes& bytes, bool deflate) {
    const Bytes packed = deflate ? deflated(bytes) : bytes;
    Entry entry{name, 0, static_cast<uint16_t>(deflate ? 8 : 0)};
    entry.crc = crc32(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size());
    entry.packed_bytes = packed.size();
    entry.bytes = bytes.size();
    entry.offset = body.bytes().size();
    body.put<uint32_t>(0x04034b50).zeros(22).put<uint16_t>(name.size()).put<uint16_t>(0).text(name);
    body.text({reinterpret_cast<const char*>(packed.data()), packed.size()});
    entries.push_back(entry);
    return *this;
  }
  Bytes finish(const std::string& comment = "") const {
    test::ByteBuilder out = body;
    const size_t begin = out.bytes().size();
    for (const Entry& e : entries) {
      out.put<uint32_t>(0x02014b50).zeros(4).put(e.flags).put(e.method).zeros(4);
      out.put(e.crc).put(e.packed_bytes).put(e.bytes).put<uint16_t>(e.name.size()).zeros(12);
      out.put(e.offset).text(e.name);
    }
    const size_t size = out.bytes().size() - begin;
    out.put<uint32_t>(0x06054b50).zeros(4).put<uint16_t>(entries.size());
    out.put<uint16_t>(entries.size()).put<uint32_t>(size).put<uint32_t>(begin);
    return out.put<uint16_t>(comment.size()).text(comment).bytes();
  }

  test::ByteBuilder body;
  std::vector<Entry> entries;
};

std::vector<io::TensorRecord> parse(std::span<const std::byte> bytes) {
  return parse_npz(bytes, nullptr, "x.npz");
}

Zip two() {
  return Zip().add("a.npy", npy({1, 2}), false).add("b.npy", npy(std::vector<float>(100)), true);
}

TEST(NpzTest, ReadsStoredAndDeflatedEntries) {
  for (const std::string comment : {"", "a comment"}) {
    const Bytes bytes = two().finish(comment);
    const auto records = parse(bytes);
    ASSERT_EQ(records.size(), 2u);
    EXPECT_EQ(records[0].name, "a");
    EXPECT_EQ(reinterpret_cast<const float*>(records[0].bytes.data())[1], 2.0f);
    EXPECT_EQ(records[1].name, "b");
    EXPECT_EQ(records[1].shape, std::vector<int64_t>{100});
  }
}

TEST(NpzTest, RefusesLiesOfTheDirectory) {
  const auto refuse = [](const std::function<void(Zip&)>& change, ErrorCode code,
                         std::initializer_list<std::string> parts) {
    Zip zip = two();
    change(zip);
    const Bytes bytes = zip.finish();
    expect_error(code, parts, [&] { parse(bytes); });
  };
  const ErrorCode corrupt = ErrorCode::kCorrupt, no = ErrorCode::kUnsupported;
  refuse([](Zip& z) { z.entries[0].crc ^= 1; }, corrupt, {"x.npz", "a.npy", "checksum"});
  refuse([](Zip& z) { z.entries[1].bytes += 1; }, corrupt, {"b.npy", "do not unpack"});
  refuse([](Zip& z) { z.entries[1].bytes -= 1; }, corrupt, {"b.npy", "do not unpack"});
  refuse([](Zip& z) { z.entries[1].bytes = 0xfffffff0; }, corrupt, {"b.npy", "4294967280 bytes"});
  refuse([](Zip& z) { z.entries[0].bytes = 0; }, corrupt, {"a.npy", "stored"});
  refuse([](Zip& z) { z.entries[0].packed_bytes = 0xfffffff0; }, corrupt, {"a.npy"});
  refuse([](Zip& z) { z.entries[0].packed_bytes += 1; }, corrupt, {"a.npy", "over what starts"});
  refuse([](Zip& z) { z.entries[1] = z.entries[0]; }, corrupt, {"a.npy", "over what starts"});
  refuse([](Zip& z) { z.entries[0].offset = 0xfffffff0; }, corrupt, {"local header"});
  refuse([](Zip& z) { z.entries[0].offset = 1; }, corrupt, {"local header"});
  refuse([](Zip& z) { z.entries[1].name = "a.npy"; }, corrupt, {"'a.npy' twice"});
  refuse([](Zip& z) { z.entries[0].flags = 1; }, no, {"a.npy", "encrypted"});
  refuse([](Zip& z) { z.entries[0].method = 12; }, no, {"a.npy", "method 12"});
  refuse([](Zip& z) { z.entries[0].bytes = 0xffffffff; }, no, {"ZIP64"});
  refuse([](Zip& z) { z.entries[0].name = "a.txt"; }, no, {"a.txt", "no .npy"});
  expect_error(corrupt, {"too few"}, [] { parse({}); });
  const Bytes zeros(100);
  expect_error(corrupt, {"truncated"}, [&] { parse(zeros); });
}

TEST(NpzTest, EveryTruncationIsRefusedAndNoMutationCrashes) {
  const Bytes bytes = two().finish();
  test::expect_truncations_refused(bytes, bytes.size(), [](auto b) { parse(b); });
  test::try_mutations(bytes, bytes.size(), [](auto b) { parse(b); });
}

TEST(NpzTest, IsADatasetOfNamedInputs) {
  const test::TempDir dir;
  const auto write = [&](const Zip& zip) { test::write_file(dir / "x.npz", zip.finish()); };
  Zip zip;
  zip.add("ids.npy", npy({1, 2}), false).add("y.npy", npy({3, 4}), true);
  zip.add("mask.npy", npy({5, 6}), true);
  write(zip);
  const auto dataset = open_dataset(dir / "x.npz");
  const Sample sample = dataset->sample(1);
  ASSERT_EQ(sample.inputs.size(), 2u);
  EXPECT_EQ(sample.inputs[0].name, "ids");
  EXPECT_EQ(sample.inputs[1].name, "mask");
  EXPECT_EQ(sample.inputs[1].array.f32()[0], 6);
  EXPECT_EQ(std::get<std::vector<float>>(sample.label), std::vector<float>{4});
  const auto refuse = [&](std::initializer_list<std::string> parts) {
    expect_error(ErrorCode::kInvalidArgument, parts, [&] { open_dataset(dir / "x.npz"); });
  };
  write(zip.add("labels.npy", npy({3, 4}), true));
  refuse({"x.npz", "both 'y' and 'labels'"});
  write(Zip().add("y.npy", npy({3, 4}), true));
  refuse({"x.npz", "zero samples"});
  write(Zip().add("a.npy", npy({3, 4}), true).add("b.npy", npy({3}), true));
  refuse({"'a' holds 2", "'b' 1"});
}

}  // namespace
}  // namespace packlight::data
