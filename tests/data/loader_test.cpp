#include "data/loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <thread>

#include "base/fail.h"
#include "error_code.h"

namespace packlight::data {
namespace {

using test::expect_error;

// Sample i is a picture [1, 2, 2] of 4i .. 4i+3, labelled i.
class Counting : public Dataset {
 public:
  explicit Counting(int64_t size) : size_(size) {}
  int64_t size() const override { return size_; }
  Sample sample(int64_t index) const override {
    if (jitter) std::this_thread::sleep_for(std::chrono::microseconds(index * 7919 % 300));
    if (index == broken || index == broken_too)
      fail(ErrorCode::kCorrupt, "sample {} is broken", index);
    Sample sample;
    const int64_t width = index == odd ? 3 : 2;
    sample.inputs.push_back({"x", make_array(codec::DType::kF32, {1, 2, width})});
    auto values = sample.inputs[0].array.f32();
    std::iota(values.begin(), values.end(), static_cast<float>(4 * index));
    if (index == nan) values[3] = std::nanf("");
    sample.label = index;
    if (sequences) sample.label = std::vector<int64_t>(index, index);
    return sample;
  }
  LabelKind label_kind() const override { return LabelKind::kClass; }
  int64_t classes() const override { return size_; }
  std::string sample_name(int64_t index) const override { return "item " + std::to_string(index); }
  std::optional<PictureFormat> picture_format() const override {
    if (!pictures) return std::nullopt;
    return PictureFormat{Layout::kNchw, {-1}};
  }
  bool jitter = false, pictures = true, sequences = false;
  int64_t broken = -1, broken_too = -1, odd = -1, nan = -1;

 private:
  int64_t size_;
};

std::vector<Batch> epoch(Loader& loader, int64_t number) {
  std::vector<Batch> batches;
  loader.start_epoch(number);
  while (auto batch = loader.next()) batches.push_back(std::move(*batch));
  return batches;
}

TEST(Loader, NamesTheSampleThatIsNoNumber) {
  auto dataset = std::make_shared<Counting>(6);
  dataset->nan = 4;
  Loader loader(dataset, {.batch_size = 3});
  expect_error(ErrorCode::kInvalidArgument, {"item 4", "'x'", "nan at element 3"},
               [&] { epoch(loader, 0); });
}

std::vector<int64_t> order(const std::vector<Batch>& batches) {
  std::vector<int64_t> indices;
  for (const Batch& batch : batches)
    indices.insert(indices.end(), batch.indices.begin(), batch.indices.end());
  return indices;
}

TEST(RandomTest, IsSplitMix64) {
  // The first outputs of splitmix64.c from 1234567, as published for checking ports of it.
  Random random(1234567);
  EXPECT_EQ(random.next(), 6457827717110365317u);
  EXPECT_EQ(random.next(), 3203168211198807973u);
  EXPECT_EQ(random.next(), 9817491932198370423u);
}

TEST(RandomTest, StaysInBoundsAndSeparatesStreams) {
  Random random(1);
  std::vector<int> counts(5);
  for (int i = 0; i < 5000; ++i) ++counts[random.below(5)];
  for (const int count : counts) EXPECT_NEAR(count, 1000, 6 * 28.3);  // 6 sigma, sqrt(npq)
  EXPECT_EQ(random.below(1), 0u);
  EXPECT_NE(Random(1, 2, 3).next(), Random(1, 3, 2).next());
  EXPECT_NE(Random(1, 2).next(), Random(2, 1).next());
}

TEST(LoaderTest, StacksSamplesInOrder) {
  Loader loader(std::make_shared<Counting>(5), {.batch_size = 2});
  EXPECT_EQ(loader.batches(), 3);
  EXPECT_FALSE(loader.next());
  const std::vector<Batch> batches = epoch(loader, 0);
  ASSERT_EQ(batches.size(), 3u);
  EXPECT_EQ(order(batches), (std::vector<int64_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(batches[1].inputs[0].name, "x");
  EXPECT_EQ(batches[1].inputs[0].array.shape, (std::vector<int64_t>{2, 1, 2, 2}));
  const auto values = batches[1].inputs[0].array.f32();
  for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(values[i], 8 + static_cast<float>(i));
  EXPECT_EQ(batches[1].labels.classes, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(batches[2].size(), 1);
  EXPECT_FALSE(loader.next());
}

TEST(LoaderTest, DropsTheLastPartialBatch) {
  Loader loader(std::make_shared<Counting>(5), {.batch_size = 2, .drop_last = true});
  EXPECT_EQ(loader.batches(), 2);
  EXPECT_EQ(epoch(loader, 0).size(), 2u);
  expect_error(ErrorCode::kInvalidArgument, {"batch_size 6", "5 samples"},
               [] { Loader(std::make_shared<Counting>(5), {.batch_size = 6, .drop_last = true}); });
}

TEST(LoaderTest, ConcatenatesSequences) {
  auto dataset = std::make_shared<Counting>(3);
  dataset->sequences = true;
  Loader loader(dataset, {.batch_size = 3});
  const BatchLabels labels = epoch(loader, 0).at(0).labels;
  EXPECT_EQ(labels.lengths, (std::vector<int64_t>{0, 1, 2}));
  EXPECT_EQ(labels.sequence, (std::vector<int64_t>{1, 2, 2}));
}

TEST(LoaderTest, ASeedGivesTheSameBatchesWhateverTheTiming) {
  LoaderOptions options{.batch_size = 8, .seed = 7, .shuffle = true};
  options.augment = {.flip = 0.5, .shift = 1, .crop_pad = 1};
  Loader calm(std::make_shared<Counting>(50), options);
  auto jittering = std::make_shared<Counting>(50);
  jittering->jitter = true;
  options.prefetch = 5;
  options.threads = 3;
  Loader busy(jittering, options);
  for (const int64_t number : {0, 3, 1}) {
    const auto a = epoch(calm, number), b = epoch(busy, number);
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(a[i].indices, b[i].indices);
      EXPECT_EQ(a[i].inputs[0].array.bytes, b[i].inputs[0].array.bytes);
    }
  }
}

TEST(LoaderTest, ShufflesEachEpochAnew) {
  Loader loader(std::make_shared<Counting>(50), {.seed = 7, .shuffle = true});
  auto first = order(epoch(loader, 0)), second = order(epoch(loader, 1));
  EXPECT_NE(first, second);
  EXPECT_FALSE(std::is_sorted(first.begin(), first.end()));
  EXPECT_EQ(order(epoch(loader, 0)), first);
  Loader other(std::make_shared<Counting>(50), {.seed = 8, .shuffle = true});
  EXPECT_NE(order(epoch(other, 0)), first);
  std::sort(second.begin(), second.end());
  for (int64_t i = 0; i < 50; ++i) EXPECT_EQ(second[i], i);
}

TEST(LoaderTest, TellsTheFirstBrokenSampleAndStopsThere) {
  auto dataset = std::make_shared<Counting>(10);
  dataset->broken = 6;
  dataset->broken_too = 5;
  dataset->jitter = true;
  Loader loader(dataset, {.batch_size = 4, .threads = 3});
  loader.start_epoch(0);
  EXPECT_TRUE(loader.next());
  expect_error(ErrorCode::kCorrupt, {"sample 5"}, [&] { loader.next(); });
  EXPECT_FALSE(loader.next());
  loader.start_epoch(0);
  EXPECT_TRUE(loader.next());
}

TEST(LoaderTest, NamesSamplesOfDifferentShape) {
  auto dataset = std::make_shared<Counting>(4);
  dataset->odd = 2;
  Loader loader(dataset, {.batch_size = 4});
  loader.start_epoch(0);
  expect_error(ErrorCode::kInvalidArgument, {"item 0", "[1, 2, 2]", "item 2", "[1, 2, 3]"},
               [&] { loader.next(); });
}

TEST(LoaderTest, StopsInTheMiddleOfAnEpoch) {
  Loader loader(std::make_shared<Counting>(1000), {.batch_size = 1, .prefetch = 1});
  loader.start_epoch(0);
  EXPECT_TRUE(loader.next());
  loader.start_epoch(1);
  EXPECT_EQ(loader.next()->epoch, 1);
}  // and the destructor while batches wait

TEST(LoaderTest, RefusesOptionsOutOfRange) {
  const auto refuse = [](const LoaderOptions& options, std::initializer_list<std::string> parts) {
    expect_error(ErrorCode::kInvalidArgument, parts,
                 [&] { Loader(std::make_shared<Counting>(3), options); });
  };
  refuse({.batch_size = 0}, {"batch_size 0"});
  refuse({.prefetch = 0}, {"prefetch 0"});
  refuse({.threads = -1}, {"threads -1"});
  refuse({.augment = {.flip = 1.5}}, {"flip 1.5"});
  refuse({.augment = {.shift = -1}}, {"shift -1"});
  auto no_pictures = std::make_shared<Counting>(3);
  no_pictures->pictures = false;
  expect_error(ErrorCode::kInvalidArgument, {"augmentation is for pictures", "item 0"},
               [&] { Loader(no_pictures, {.augment = {.flip = 0.5}}); });
}

Array picture() {
  Array array = make_array(codec::DType::kF32, {1, 2, 3});
  std::iota(array.f32().begin(), array.f32().end(), 1.0f);  // 1 2 3 / 4 5 6
  return array;
}

TEST(AugmentTest, MirrorsLeftToRight) {
  Array array = picture();
  Random random(1);
  apply_augment({.flip = 1}, {Layout::kNchw, {0}}, random, array);
  EXPECT_EQ(std::vector<float>(array.f32().begin(), array.f32().end()),
            (std::vector<float>{3, 2, 1, 6, 5, 4}));
  Array pixels = make_array(codec::DType::kF32, {1, 2, 2});
  std::iota(pixels.f32().begin(), pixels.f32().end(), 1.0f);
  apply_augment({.flip = 1}, {Layout::kNhwc, {0, 0}}, random, pixels);
  EXPECT_EQ(std::vector<float>(pixels.f32().begin(), pixels.f32().end()),
            (std::vector<float>{3, 4, 1, 2}));
}

TEST(AugmentTest, MovesByWhatItDrawsAndFillsWithBlack) {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    Random random(seed), copy(seed);
    const int64_t down = copy.between(-2, 2), across = copy.between(-2, 2);
    Array array = picture();
    apply_augment({.shift = 2}, {Layout::kNchw, {-7}}, random, array);
    const Array original = picture();
    for (int64_t y = 0; y < 2; ++y) {
      for (int64_t x = 0; x < 3; ++x) {
        const int64_t v = y - down, u = x - across;
        const bool inside = v >= 0 && v < 2 && u >= 0 && u < 3;
        EXPECT_EQ(array.f32()[y * 3 + x], inside ? original.f32()[v * 3 + u] : -7) << seed;
      }
    }
  }
}

TEST(AugmentTest, RefusesWhatIsNoPicture) {
  Array array = picture();
  Random random(1);
  expect_error(ErrorCode::kInvalidArgument, {"[1, 2, 3]", "2 channels"}, [&] {
    apply_augment({.flip = 1}, {Layout::kNchw, {0, 0}}, random, array);
  });
}

}  // namespace
}  // namespace packlight::data
