#include "io/network_package.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "codec/half.h"
#include "codec/tile.h"
#include "error_code.h"
#include "fuzz/io_entries.h"
#include "io/hf_folder.h"
#include "io/hostile.h"
#include "io/network_json.h"
#include "io/tiny_package.h"
#include "temp_dir.h"

namespace packlight::io {
namespace {

using codec::DType;
using test::Bytes;
using test::expect_error;
using test::TempDir;

NetworkValue dense(const std::string& name, std::vector<int64_t> shape) {
  static constexpr float kValues[6] = {1, 2, 3, 4, 5, 6};
  NetworkValue value;
  value.name = name;
  value.constant.emplace();
  TensorRecord& record = value.constant->record;
  record = {name, DType::kF32, std::move(shape), {}, nullptr};
  record.bytes = std::as_bytes(std::span(kValues)).first(record.elements() * sizeof(float));
  return value;
}

NetworkValue packed(const std::string& name, int bits, bool symmetric) {
  codec::QuantizedMatrix m;
  m.rows = 20;
  m.cols = 40;
  m.bits = bits;
  m.group_size = bits == 4 ? 32 : 40;
  for (int64_t i = 0; i < m.rows * m.cols; ++i) m.codes.push_back(static_cast<int8_t>(i * 7 % 8));
  m.scales.assign(m.rows * m.groups_per_row(), codec::f32_to_f16(0.25f));
  if (!symmetric) m.zeros.assign(m.scales.size(), 5);
  NetworkValue value;
  value.name = name;
  value.constant.emplace();
  value.constant->record = {name, DType::kF32, {20, 2, 4, 5}, {}, nullptr};
  value.constant->packed = codec::pack(m);
  return value;
}

NetworkValue plain_value(const std::string& name) {
  return {name, std::nullopt, std::nullopt, std::nullopt};
}

// Constants whose names a package uses for something else, an odd size, an empty one, every
// packing.
Network sample_network() {
  Network network;
  network.name = "sample";
  network.values = {plain_value("x"),
                    dense("network", {2, 3}),
                    packed("m", 4, true),
                    packed("asymmetric", 4, false),
                    packed("bytes", 8, true),
                    dense("m.scales", {1}),
                    dense("__metadata__", {}),
                    dense("padding.7", {0, 5}),
                    plain_value("y")};
  network.nodes = {{"op", "Op", "own", {0, 1, 2, 3, 4, 5, 6, 7}, {8}, {}, 0}};
  network.nodes[0].attributes["value"] = dense("value", {3}).constant->record;
  network.inputs = {0};
  network.outputs = {8};
  network.metadata["character"] = "abc";
  return network;
}

NetworkMetadata sample_metadata() {
  NetworkMetadata metadata;
  metadata.recipe = {{"weights", "int4"}};
  metadata.preprocess = {{"scale", 0.5}};
  return metadata;
}

NetworkPackage parse_aligned(std::span<const std::byte> bytes) {
  const size_t room = (bytes.size() / 64 + 1) * 64;
  const std::shared_ptr<std::byte> copy(static_cast<std::byte*>(std::aligned_alloc(64, room)),
                                        std::free);
  std::copy(bytes.begin(), bytes.end(), copy.get());
  return NetworkPackage::parse({copy.get(), bytes.size()}, copy, "x.plk");
}

Bytes bytes_of(std::span<const std::byte> span) { return {span.begin(), span.end()}; }

void expect_line(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  EXPECT_EQ(reinterpret_cast<uintptr_t>(bytes.data()) % 64, 0u);
}

TEST(NetworkPackageTest, HoldsWhatWasWritten) {
  const TempDir dir;
  const Network want = sample_network();
  write_network_package(dir / "x.plk", want, sample_metadata());
  EXPECT_EQ(detect_model_kind(dir / "x.plk"), ModelKind::kNetworkPackage);
  const NetworkPackage package = NetworkPackage::open(dir / "x.plk");
  EXPECT_EQ(package.size_bytes(), std::filesystem::file_size(dir / "x.plk"));
  EXPECT_EQ(package.metadata().recipe, sample_metadata().recipe);
  EXPECT_EQ(package.metadata().preprocess, sample_metadata().preprocess);
  EXPECT_TRUE(package.damaged_blocks().empty());
  const Network& got = *package.network();
  EXPECT_EQ(network_to_json(got), network_to_json(want));
  for (size_t i = 0; i < want.values.size(); ++i) {
    if (!want.values[i].constant) continue;
    SCOPED_TRACE(want.values[i].name);
    const NetworkConstant &a = *got.values[i].constant, &b = *want.values[i].constant;
    EXPECT_EQ(bytes_of(a.record.bytes), bytes_of(b.record.bytes));
    EXPECT_EQ(bytes_of(a.packed.data), bytes_of(b.packed.data));
    EXPECT_EQ(bytes_of(a.packed.scales), bytes_of(b.packed.scales));
    EXPECT_EQ(bytes_of(a.packed.zeros), bytes_of(b.packed.zeros));
    for (const auto part : {a.record.bytes, a.packed.data, a.packed.scales, a.packed.zeros})
      expect_line(part);
  }
}

TEST(NetworkPackageTest, ConstantsAreViewsOfTheMappedFile) {
  const TempDir dir;
  write_network_package(dir / "x.plk", sample_network(), {});
  const Bytes file = test::read_file(dir / "x.plk");
  const std::shared_ptr<std::byte> copy(
      static_cast<std::byte*>(std::aligned_alloc(64, (file.size() / 64 + 1) * 64)), std::free);
  std::copy(file.begin(), file.end(), copy.get());
  std::shared_ptr<const Network> network;
  { network = NetworkPackage::parse({copy.get(), file.size()}, copy, "x.plk").network(); }
  const auto inside = [&](std::span<const std::byte> part) {
    return part.data() >= copy.get() && part.data() + part.size() <= copy.get() + file.size();
  };
  EXPECT_TRUE(inside(network->values[1].constant->record.bytes));
  EXPECT_TRUE(inside(network->values[2].constant->packed.data));
  EXPECT_TRUE(inside(network->values[3].constant->packed.zeros));
  EXPECT_GE(copy.use_count(), 5);  // each constant keeps the bytes alive
}

TEST(NetworkPackageTest, KindsAreNotTakenForEachOther) {
  const TempDir dir;
  write_network_package(dir / "network.plk", sample_network(), {});
  test::TinyPackage().write(dir / "decoder.plk");
  EXPECT_EQ(detect_model_kind(dir / "decoder.plk"), ModelKind::kPackage);
  expect_error(ErrorCode::kUnsupported, {"network.plk", "holds a network"},
               [&] { Package::open(dir / "network.plk"); });
  expect_error(ErrorCode::kUnsupported, {"decoder.plk", "holds a language model"},
               [&] { NetworkPackage::open(dir / "decoder.plk"); });
}

TEST(NetworkPackageTest, SameNetworkSameBytes) {
  const TempDir dir;
  write_network_package(dir / "a", sample_network(), sample_metadata());
  write_network_package(dir / "b", sample_network(), sample_metadata());
  EXPECT_EQ(test::read_file(dir / "a"), test::read_file(dir / "b"));
}

TEST(NetworkPackageTest, DamageIsFoundInItsBlock) {
  const TempDir dir;
  write_network_package(dir / "x.plk", sample_network(), {});
  const Bytes good = test::read_file(dir / "x.plk");
  const NetworkPackage sound = parse_aligned(good);
  const auto damage = [&](const char* tensor) {
    Bytes bytes = good;
    const SafetensorsFile file = parse_safetensors(bytes, nullptr, "x");
    const auto part = file.find(tensor)->bytes;
    bytes[part.data() + 3 - bytes.data()] ^= std::byte{1};
    return parse_aligned(bytes).damaged_blocks();
  };
  using List = std::vector<std::string>;
  EXPECT_EQ(damage("network.2"), List{"'network.2'"});
  EXPECT_EQ(damage("asymmetric.zeros"), List{"'asymmetric.zeros'"});
  EXPECT_EQ(damage("op.value"), List{"'op.value'"});
}

TEST(NetworkPackageTest, ManyConstantsStayWithinTheMetadata) {
  const TempDir dir;
  Network network;
  network.values = {plain_value("x"), plain_value("y")};
  for (int i = 0; i < 2000; ++i)
    network.values.push_back(dense("layer." + std::to_string(i) + std::string(100, 'n'), {2}));
  network.nodes = {{"op", "Op", "", {0}, {1}, {}, 0}};
  network.inputs = {0};
  network.outputs = {1};
  write_network_package(dir / "x.plk", network, {});
  const NetworkPackage package = NetworkPackage::open(dir / "x.plk");
  EXPECT_EQ(package.metadata().checksums.size(), 64u + 2u);
  EXPECT_TRUE(package.damaged_blocks().empty());
  Bytes bytes = test::read_file(dir / "x.plk");
  bytes[bytes.size() - 8] ^= std::byte{1};  // of the last constant
  const std::vector<std::string> damaged = parse_aligned(bytes).damaged_blocks();
  ASSERT_EQ(damaged.size(), 1u);
  EXPECT_NE(damaged[0].find("to 'layer.1999"), std::string::npos) << damaged[0];
}

// Rewrites metadata, network or tensors of a good package.
class EditedPackage {
 public:
  EditedPackage() { write_network_package(dir_ / "x.plk", sample_network(), sample_metadata()); }

  using Tensors = std::vector<TensorToWrite>;
  void expect_refused(
      ErrorCode code, std::initializer_list<std::string> parts,
      const std::function<void(Json&)>& edit_metadata,
      const std::function<void(Json&)>& edit_network = [](Json&) {},
      const std::function<void(Tensors&)>& edit_tensors = [](Tensors&) {}) {
    const SafetensorsFile file = read_safetensors(dir_ / "x.plk");
    Tensors tensors;
    Json metadata = Json::parse(file.metadata.at("packlight"));
    edit_metadata(metadata);
    const auto blob = file.find(kNetworkBlob)->bytes;
    Json network =
        Json::parse(std::string_view(reinterpret_cast<const char*>(blob.data()), blob.size()));
    edit_network(network);
    std::string text = network.dump();
    text.resize((text.size() + 63) / 64 * 64, ' ');
    for (const TensorRecord& t : file.tensors) {
      if (t.name == kNetworkBlob) {
        tensors.push_back({t.name,
                           DType::kU8,
                           {static_cast<int64_t>(text.size())},
                           {std::as_bytes(std::span(text))}});
      } else if (t.name != "padding." + std::to_string(blob.size())) {
        tensors.push_back({t.name, t.dtype, t.shape, {t.bytes}});
      }
    }
    edit_tensors(tensors);
    write_safetensors(dir_ / "y.plk", tensors, {{"packlight", metadata.dump()}});
    expect_error(code, parts, [&] { NetworkPackage::open(dir_ / "y.plk"); });
  }
  void expect_network_refused(std::initializer_list<std::string> parts,
                              const std::function<void(Json&)>& edit) {
    expect_refused(
        ErrorCode::kCorrupt, parts, [](Json&) {}, edit);
  }
  void expect_tensors_refused(std::initializer_list<std::string> parts,
                              const std::function<void(Tensors&)>& edit) {
    expect_refused(
        ErrorCode::kCorrupt, parts, [](Json&) {}, [](Json&) {}, edit);
  }

 private:
  TempDir dir_;
};

TEST(NetworkPackageTest, RefusesBrokenMetadata) {
  EditedPackage edited;
  edited.expect_refused(ErrorCode::kUnsupported, {"y.plk", "version 2"},
                        [](Json& j) { j["format_version"] = 2; });
  edited.expect_refused(ErrorCode::kUnsupported, {"y.plk", "kind \"picture\""},
                        [](Json& j) { j["kind"] = "picture"; });
  edited.expect_refused(ErrorCode::kUnsupported, {"y.plk", "kind 7"},
                        [](Json& j) { j["kind"] = 7; });
  edited.expect_refused(ErrorCode::kUnsupported, {"y.plk", "language model"},
                        [](Json& j) { j.erase("kind"); });
  edited.expect_refused(ErrorCode::kCorrupt, {"y.plk", "checksums"},
                        [](Json& j) { j["checksums"] = 3; });
  edited.expect_refused(ErrorCode::kCorrupt, {"y.plk", "preprocess"},
                        [](Json& j) { j["preprocess"] = "resize"; });
}

TEST(NetworkPackageTest, RefusesANetworkThatItsTensorsContradict) {
  EditedPackage edited;
  const auto change = [](const char* pointer, Json value) {
    return [=](Json& j) { j[Json::json_pointer(pointer)] = value; };
  };
  edited.expect_network_refused({"y.plk", "'nothing' is missing"},
                                change("/values/1/tensor", "nothing"));
  edited.expect_network_refused({"y.plk", "'network.2'", "shape"},
                                change("/values/1/shape", {3, 2}));
  edited.expect_network_refused({"y.plk", "'network.2'", "type"}, change("/values/1/type", "I32"));
  edited.expect_network_refused({"y.plk", "'m'", "bytes", "need"}, change("/values/2/shape/0", 40));
  edited.expect_network_refused({"y.plk", "'m'", "2^40"},
                                change("/values/2/shape", {int64_t{1} << 40, 2}));
  edited.expect_network_refused({"y.plk", "'m'", "0"}, change("/values/2/shape/1", 0));
  for (const int64_t group : {int64_t{0}, int64_t{-32}, int64_t{33}, INT64_MAX, INT64_MIN})
    edited.expect_network_refused({"y.plk", "'m'"}, change("/values/2/packed/group_size", group));
  edited.expect_network_refused({"y.plk", "'m'"}, change("/values/2/packed/type", "TILE_INT8"));
  edited.expect_network_refused({"y.plk", "'m.zeros' is missing"},
                                change("/values/2/packed/symmetric", false));
  edited.expect_network_refused({"y.plk", "no use for tensor 'asymmetric.zeros'"},
                                change("/values/3/packed/symmetric", true));
  edited.expect_network_refused({"y.plk", "no use for tensor 'network.2'"}, [](Json& j) {
    j["values"][1] = {{"name", "z"}};
    j["inputs"] = {0, 1};
  });
  edited.expect_network_refused({"y.plk", "object"}, [](Json& j) { j = Json::array(); });
}

TEST(NetworkPackageTest, RefusesTensorsThatDoNotFit) {
  EditedPackage edited;
  using Tensors = EditedPackage::Tensors;
  const auto named = [](Tensors& tensors, const char* name) -> TensorToWrite& {
    return *std::find_if(tensors.begin(), tensors.end(),
                         [&](const TensorToWrite& t) { return t.name == name; });
  };
  edited.expect_tensors_refused({"y.plk", "'network' is missing"}, [&](Tensors& tensors) {
    named(tensors, "network").name = "netword";
  });
  edited.expect_tensors_refused({"y.plk", "'asymmetric.scales' is missing"}, [&](Tensors& tensors) {
    named(tensors, "asymmetric.scales").name = "other";
  });
  edited.expect_tensors_refused({"y.plk", "'m'", "bytes"}, [&](Tensors& tensors) {
    TensorToWrite& t = named(tensors, "m");
    t.shape[0] -= 64;
    t.chunks[0] = t.chunks[0].first(t.shape[0]);
  });
  static constexpr std::byte kEight[8] = {};
  edited.expect_tensors_refused({"y.plk", "not aligned to 64"}, [&](Tensors& tensors) {
    tensors.insert(tensors.begin() + 1, {"padding.0", DType::kU8, {8}, {kEight}});
  });
  edited.expect_tensors_refused({"y.plk", "no use for tensor 'more'"}, [&](Tensors& tensors) {
    tensors.push_back({"more", DType::kU8, {8}, {kEight}});
  });
}

TEST(NetworkPackageTest, TruncationsAreRefusedAndNoMutationCrashes) {
  const TempDir dir;
  write_network_package(dir / "x.plk", sample_network(), sample_metadata());
  const Bytes bytes = test::read_file(dir / "x.plk");
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  const size_t head = 8 + header + 1500;  // the network's JSON, too
  for (size_t size = 0; size < bytes.size(); size += size < head ? 13 : 97)
    ASSERT_FALSE(test::parses(std::span(bytes).first(size), parse_aligned)) << size;
  Bytes copy = bytes;
  for (size_t i = 0; i < head; ++i) {
    copy[i] ^= std::byte{static_cast<uint8_t>(1 + i % 31)};
    test::parses(copy, fuzz::package);
    copy[i] = bytes[i];
  }
}

TEST(NetworkPackageTest, WriterRefusesWhatDoesNotFit) {
  const TempDir dir;
  const auto refuse = [&](ErrorCode code, std::initializer_list<std::string> parts,
                          const std::function<void(Network&, NetworkMetadata&)>& edit) {
    Network network = sample_network();
    NetworkMetadata metadata;
    edit(network, metadata);
    expect_error(code, parts, [&] { write_network_package(dir / "x", network, metadata); });
    EXPECT_FALSE(std::filesystem::exists(dir / "x"));
  };
  refuse(ErrorCode::kUnsupported, {"bytes of metadata", "65536"},
         [](Network&, NetworkMetadata& m) { m.recipe = std::string(70000, 'x'); });
  refuse(ErrorCode::kInvalidArgument, {"UTF-8"},
         [](Network&, NetworkMetadata& m) { m.recipe = "\xff"; });
  refuse(ErrorCode::kInvalidArgument, {"UTF-8"},
         [](Network& n, NetworkMetadata&) { n.metadata["x"] = "\xff"; });
}

}  // namespace
}  // namespace packlight::io
