#include "train/architectures.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/fail.h"

namespace packlight::train {
namespace {

using graph::ValueId;
using Attributes = std::map<std::string, graph::Attribute>;
using Ints = std::vector<int64_t>;

// A network that grows layer by layer; remembers how many channels and pixels the last one made.
class Network {
 public:
  Network(std::string_view name, const ArchitectureOptions& options)
      : options_(options),
        generator_(at::detail::createCPUGenerator(options.seed)),
        channels_(options.channels),
        height_(options.height),
        width_(options.width) {
    graph_.name = name;
    value_ = graph_.add_input("input", graph::ElementType::kF32,
                              {std::string("batch"), channels_, height_, width_});
  }

  void block(std::string name) { block_ = std::move(name); }
  int64_t scaled(int64_t channels) const {
    return std::max<int64_t>(
        1, std::llround(static_cast<double>(channels) * options_.width_multiplier));
  }

  // Without bias where a BatchNormalization follows.
  void conv(const std::string& name, int64_t out, int64_t kernel, int64_t stride, int64_t pad,
            bool bias, int64_t groups = 1) {
    const int64_t in = channels_ / groups;
    std::vector<ValueId> inputs{
        value_, normal(name + ".weight", {out, in, kernel, kernel}, in * kernel * kernel)};
    if (bias) inputs.push_back(zeros(name + ".bias", out));
    shrink(name, kernel, stride, pad);
    value_ = node("Conv", name, std::move(inputs),
                  {{"kernel_shape", Ints{kernel, kernel}},
                   {"strides", Ints{stride, stride}},
                   {"pads", Ints{pad, pad, pad, pad}},
                   {"group", groups}});
    channels_ = out;
  }

  void batch_norm(const std::string& name) {
    value_ =
        node("BatchNormalization", name,
             {value_, ones(name + ".weight", channels_), zeros(name + ".bias", channels_),
              zeros(name + ".running_mean", channels_), ones(name + ".running_var", channels_)},
             {{"epsilon", 1e-5}, {"momentum", 0.9}});
  }

  void relu(const std::string& name) { value_ = node("Relu", name, {value_}); }

  void max_pool(const std::string& name) {
    shrink(name, 2, 2, 0);
    value_ =
        node("MaxPool", name, {value_}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}});
  }

  void global_average_pool() {
    value_ = node("GlobalAveragePool", "pool", {value_});
    height_ = width_ = 1;
  }

  void flatten() {
    if (flat_) return;
    flat_ = true;
    value_ = node("Flatten", "flatten", {value_}, {{"axis", int64_t{1}}});
    channels_ *= height_ * width_;
    height_ = width_ = 1;
  }

  void linear(const std::string& name, int64_t out) {
    value_ = node(
        "Gemm", name,
        {value_, normal(name + ".weight", {out, channels_}, channels_), zeros(name + ".bias", out)},
        {{"transB", int64_t{1}}});
    channels_ = out;
  }

  // conv-bn-relu-conv-bn plus the input (projected where its shape changes), then relu.
  void residual_block(const std::string& name, int64_t out, int64_t stride) {
    block(name);
    const ValueId input = value_;
    const int64_t in = channels_, height = height_, width = width_;
    conv(name + ".conv1", out, 3, stride, 1, false);
    batch_norm(name + ".bn1");
    relu(name + ".relu1");
    conv(name + ".conv2", out, 3, 1, 1, false);
    batch_norm(name + ".bn2");
    const ValueId body = value_;
    ValueId shortcut = input;
    if (in != out || stride != 1) {
      value_ = input;
      channels_ = in, height_ = height, width_ = width;
      conv(name + ".downsample.0", out, 1, stride, 0, false);
      batch_norm(name + ".downsample.1");
      shortcut = value_;
    }
    value_ = node("Add", name + ".add", {body, shortcut});
    relu(name + ".relu2");
  }

  graph::Graph finish() {
    block("head");
    flatten();
    value_ = graph_.add_node("Gemm", "fc",
                             {value_, normal("fc.weight", {options_.classes, channels_}, channels_),
                              zeros("fc.bias", options_.classes)},
                             {"logits"}, {{"transB", int64_t{1}}}, block_)[0];
    graph_.outputs = {value_};
    graph::verify(graph_);
    graph::infer_shapes(graph_);
    return std::move(graph_);
  }

 private:
  ValueId node(std::string op, const std::string& name, std::vector<ValueId> inputs,
               Attributes attributes = {}) {
    return graph_.add_node(std::move(op), name, std::move(inputs), {name + ".output"},
                           std::move(attributes), block_)[0];
  }

  ValueId normal(const std::string& name, const Ints& shape, int64_t fan_in) {
    return graph_.add_weight(
        name, at::randn(shape, generator_) * std::sqrt(2.0 / static_cast<double>(fan_in)));
  }
  ValueId zeros(const std::string& name, int64_t size) {
    return graph_.add_weight(name, at::zeros({size}));
  }
  ValueId ones(const std::string& name, int64_t size) {
    return graph_.add_weight(name, at::ones({size}));
  }

  void shrink(const std::string& name, int64_t kernel, int64_t stride, int64_t pad) {
    if (height_ + 2 * pad < kernel || width_ + 2 * pad < kernel) {
      fail(ErrorCode::kInvalidArgument,
           "[create] pictures of {} x {} are too small for {}: {} x {} pixels are left for a "
           "window of {}",
           options_.height, options_.width, graph_.name, height_, width_, kernel);
    }
    (void)name;
    height_ = (height_ + 2 * pad - kernel) / stride + 1;
    width_ = (width_ + 2 * pad - kernel) / stride + 1;
  }

  const ArchitectureOptions& options_;
  at::Generator generator_;
  graph::Graph graph_;
  std::string block_;
  ValueId value_ = graph::kNone;
  int64_t channels_, height_, width_;
  bool flat_ = false;
};

void mlp(Network& net, const ArchitectureOptions& options) {
  net.flatten();
  for (size_t i = 0; i < options.hidden.size(); ++i) {
    const std::string layer = fmt::format("fc{}", i + 1);
    net.block(layer);
    net.linear(layer, options.hidden[i]);
    net.relu(layer + ".relu");
  }
}

void lenet5(Network& net, const ArchitectureOptions&) {
  net.block("features");
  net.conv("conv1", 6, 5, 1, 2, true);
  net.relu("relu1");
  net.max_pool("pool1");
  net.conv("conv2", 16, 5, 1, 0, true);
  net.relu("relu2");
  net.max_pool("pool2");
  net.block("classifier");
  net.flatten();
  net.linear("fc1", 120);
  net.relu("relu3");
  net.linear("fc2", 84);
  net.relu("relu4");
}

void resnet(Network& net, int blocks_per_stage) {
  net.block("stem");
  net.conv("conv1", net.scaled(16), 3, 1, 1, false);
  net.batch_norm("bn1");
  net.relu("relu1");
  for (int stage = 0; stage < 3; ++stage) {
    for (int i = 0; i < blocks_per_stage; ++i) {
      net.residual_block(fmt::format("layer{}.{}", stage + 1, i), net.scaled(int64_t{16} << stage),
                         stage > 0 && i == 0 ? 2 : 1);
    }
  }
  net.global_average_pool();
}

void mobilenet(Network& net, const ArchitectureOptions& options) {
  struct Stage {
    int64_t channels, stride;
  };
  // Depthwise separable layers after the first convolution (arXiv:1704.04861, table 1).
  constexpr std::array<Stage, 13> kStages{{{64, 1},
                                           {128, 2},
                                           {128, 1},
                                           {256, 2},
                                           {256, 1},
                                           {512, 2},
                                           {512, 1},
                                           {512, 1},
                                           {512, 1},
                                           {512, 1},
                                           {512, 1},
                                           {1024, 2},
                                           {1024, 1}}};
  // Small pictures keep their size in the first layers, so that 4 pixels or more reach the last.
  const int64_t size = std::min(options.height, options.width);
  int halvings = 0;
  while (halvings < 5 && size >> (halvings + 1) >= 4) ++halvings;
  int skipped = 5 - halvings;
  const auto stride_of = [&](int64_t stride) {
    if (stride == 1 || skipped-- > 0) return int64_t{1};
    return stride;
  };
  net.block("stem");
  net.conv("conv1", net.scaled(32), 3, stride_of(2), 1, false);
  net.batch_norm("bn1");
  net.relu("relu1");
  int64_t channels = net.scaled(32);
  for (size_t i = 0; i < kStages.size(); ++i) {
    const std::string name = fmt::format("layer{}", i + 1);
    net.block(name);
    net.conv(name + ".depthwise", channels, 3, stride_of(kStages[i].stride), 1, false, channels);
    net.batch_norm(name + ".bn1");
    net.relu(name + ".relu1");
    channels = net.scaled(kStages[i].channels);
    net.conv(name + ".pointwise", channels, 1, 1, 0, false);
    net.batch_norm(name + ".bn2");
    net.relu(name + ".relu2");
  }
  net.global_average_pool();
}

struct Architecture {
  std::string_view name;
  void (*build)(Network&, const ArchitectureOptions&);
};
constexpr std::array kArchitectures = {
    Architecture{"mlp", mlp},
    Architecture{"lenet5", lenet5},
    Architecture{"resnet8", [](Network& net, const ArchitectureOptions&) { resnet(net, 1); }},
    Architecture{"resnet20", [](Network& net, const ArchitectureOptions&) { resnet(net, 3); }},
    Architecture{"mobilenet", mobilenet},
};

void check(const ArchitectureOptions& options) {
  const auto positive = [](const char* what, double value) {
    if (!(value > 0))
      fail(ErrorCode::kInvalidArgument, "[create] {} is {}; it must be positive", what, value);
  };
  positive("channels", static_cast<double>(options.channels));
  positive("height", static_cast<double>(options.height));
  positive("width", static_cast<double>(options.width));
  positive("classes", static_cast<double>(options.classes));
  positive("the width multiplier", options.width_multiplier);
  for (const int64_t neurons : options.hidden)
    positive("a hidden layer's size", static_cast<double>(neurons));
}

}  // namespace

std::vector<std::string_view> architecture_names() {
  std::vector<std::string_view> names;
  for (const Architecture& architecture : kArchitectures) names.push_back(architecture.name);
  return names;
}

graph::Graph create_architecture(std::string_view name, const ArchitectureOptions& options) {
  check(options);
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.name != name) continue;
    Network net(name, options);
    architecture.build(net, options);
    return net.finish();
  }
  fail(ErrorCode::kInvalidArgument, "[create] there is no architecture '{}'; there are {}", name,
       fmt::join(architecture_names(), ", "));
}

}  // namespace packlight::train
