#include "eval/classification.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "error_code.h"

namespace packlight::eval {
namespace {

using test::expect_error;

// Sample i holds the number i; its label is what the test says.
class Numbers : public data::Dataset {
 public:
  explicit Numbers(std::vector<data::Label> labels) : labels_(std::move(labels)) {}
  int64_t size() const override { return static_cast<int64_t>(labels_.size()); }
  data::LabelKind label_kind() const override {
    return static_cast<data::LabelKind>(labels_[0].index());
  }
  int64_t classes() const override { return 0; }
  std::string sample_name(int64_t index) const override { return std::to_string(index); }
  data::Sample sample(int64_t index) const override {
    data::Sample sample{{{"x", data::make_array(codec::DType::kF32, {1})}}, labels_.at(index)};
    sample.inputs[0].array.f32()[0] = static_cast<float>(index);
    return sample;
  }

 private:
  std::vector<data::Label> labels_;
};

// A network whose output is any function of the numbers [batch, 1] that come in.
struct Formula {
  explicit Formula(std::function<at::Tensor(const at::Tensor&)> formula) {
    const graph::ValueId x = graph.add_input("x", graph::ElementType::kF32, {graph::Dim("n"), 1});
    graph.outputs = {x};
    subject.graph = &graph;
    subject.run = [formula](const NetworkSubject::Arrays& inputs) {
      return NetworkSubject::Arrays{{"x", formula(inputs.at("x"))}};
    };
  }
  Formula(const Formula&) = delete;

  graph::Graph graph;
  NetworkSubject subject;
};

TaskReport evaluate(const Formula& network, const Formula* original,
                    std::vector<data::Label> labels, int64_t batch_size, int64_t most = 0) {
  data::LoaderOptions loading;
  loading.batch_size = batch_size;
  data::Loader loader(std::make_shared<Numbers>(std::move(labels)), loading);
  TaskOptions options;
  options.most_samples = most;
  options.quiet = true;
  return evaluate_task(network.subject, original ? &original->subject : nullptr, loader, options);
}

std::vector<data::Label> classes(std::vector<int64_t> values) {
  return {values.begin(), values.end()};
}

// Scores of 6 classes, the largest where the number says.
at::Tensor right_scores(const at::Tensor& x) {
  return at::one_hot(x.squeeze(1).to(at::kLong), 6).to(at::kFloat);
}

TEST(EvaluateTask, CountsAsManySamplesAsAskedFor) {
  const Formula network(right_scores);
  // The first three labels are right, what comes after them is not.
  const TaskReport report = evaluate(network, &network, classes({0, 1, 2, 0, 0}), 2, 3);
  EXPECT_EQ(report.samples, 3);
  EXPECT_EQ(report.top1->value, 1);
  EXPECT_EQ(report.agreement->value, 1);
  EXPECT_EQ(evaluate(network, nullptr, classes({0, 1, 2, 0, 0}), 2).top1->value, 0.6);
  const Formula twice([](const at::Tensor& x) { return 2 * x; });
  const auto vector = [](float y) { return data::Label(std::vector<float>{y}); };
  const TaskReport squares = evaluate(twice, nullptr, {vector(1), vector(2), vector(9)}, 3, 2);
  EXPECT_EQ(squares.samples, 2);
  EXPECT_EQ(squares.mean_squared_error->value, 0.5);
}

TEST(EvaluateTask, ScoresThatAreNotNumbersAreNoHit) {
  for (const float some : {0.0f, std::nanf("")}) {
    // All of a row, and one score of it that is not the label's.
    const Formula network([some](const at::Tensor& x) {
      at::Tensor scores = right_scores(x) + some;
      scores.select(1, 5).fill_(std::nanf(""));
      return scores;
    });
    const TaskReport report = evaluate(network, nullptr, classes({0, 1, 2}), 3);
    EXPECT_EQ(report.top1->value, 0);
    EXPECT_EQ(report.top5->value, 0);
  }
}

TEST(EvaluateTask, AgreementIsOfSamplesThatHaveSeveralScores) {
  const auto rows = [](int64_t count) {
    return [count](const at::Tensor& x) { return x.repeat({count, 6}); };
  };
  const Formula boxes(rows(50)), fewer(rows(49));
  const std::vector<data::Label> none(4);
  EXPECT_FALSE(evaluate(boxes, &boxes, none, 2).agreement);
  EXPECT_EQ(evaluate(boxes, &boxes, none, 2).output_difference, 0);
  EXPECT_FALSE(evaluate(boxes, &fewer, none, 2).agreement);
  EXPECT_FALSE(evaluate(boxes, &fewer, none, 2).output_difference);
  const Formula number([](const at::Tensor& x) { return x.squeeze(1); });
  EXPECT_FALSE(evaluate(boxes, &boxes, none, 2).same_side);  // 3 is no probability
  EXPECT_FALSE(evaluate(number, &number, none, 2).agreement);
  EXPECT_EQ(evaluate(number, &number, none, 2).output_difference, 0);
  expect_error(ErrorCode::kInvalidArgument, {"[100, 6]", "[batch, classes]"}, [&] {
    evaluate(boxes, nullptr, classes({0, 1}), 2);
  });
}

// Maps of probabilities [batch, 1, 2, 3], [batch, 2, 3]: one of the six is on the other side.
TEST(EvaluateTask, MapsAreComparedBySidesOfOneHalf) {
  const at::Tensor map = at::tensor({0.1f, 0.9f, 0.8f, 0.6f, 0.2f, 0.4f}),
                   other = at::tensor({0.2f, 0.7f, 0.9f, 0.4f, 0.1f, 0.0f});
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{1, 2, 3}, {2, 3}}) {
    const auto repeated = [&shape](const at::Tensor& values) {
      return [&shape, values](const at::Tensor& x) {
        std::vector<int64_t> sizes = {x.size(0)};
        sizes.insert(sizes.end(), shape.begin(), shape.end());
        return values.reshape(shape).unsqueeze(0).expand(sizes).contiguous();
      };
    };
    const Formula mine(repeated(map)), original(repeated(other));
    const TaskReport report = evaluate(mine, &original, std::vector<data::Label>(4), 2);
    EXPECT_FALSE(report.agreement);
    ASSERT_TRUE(report.same_side);
    EXPECT_NEAR(report.same_side->value, 5.0 / 6, 1e-12);
  }
}

TEST(EvaluateTask, ReadingsStandForTheOriginal) {
  const Formula network(right_scores),
      other([](const at::Tensor&x) { return right_scores(5 - x); });
  data::LoaderOptions loading;
  loading.batch_size = 2;
  data::Loader loader(std::make_shared<Numbers>(std::vector<data::Label>(5)), loading);
  TaskOptions options;
  options.quiet = true;
  options.most_samples = 3;
  const auto readings = readings_of(network.subject, loader, options);
  EXPECT_EQ(readings, (std::vector<std::vector<int64_t>>{{0}, {1}, {2}}));
  options.original_readings = &readings;
  EXPECT_EQ(evaluate_task(network.subject, nullptr, loader, options).agreement->value, 1);
  EXPECT_EQ(evaluate_task(other.subject, nullptr, loader, options).agreement->value, 0);
  const Formula number([](const at::Tensor& x) { return x.squeeze(1); });
  EXPECT_TRUE(readings_of(number.subject, loader, options).empty());
}

}  // namespace
}  // namespace packlight::eval
