#include <cmath>
#include <set>

#include "base/fail.h"
#include "io/network_json.h"
#include "io/package_file.h"

namespace packlight::io {
namespace {

// JSON has no word for these.
Json number_to_json(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return value;
}

// Both what is written and which tensors it mentions come from one walk, so they cannot differ.
class Writer {
 public:
  std::vector<NetworkTensor> tensors;

  Json network(const Network& network, const std::string& path, int nesting) {
    if (nesting > kMaxNetworkNesting) {
      fail(ErrorCode::kInvalidArgument, "[network] '{}': subgraphs are nested deeper than {}",
           network.name, kMaxNetworkNesting);
    }
    Json json = {{"name", text(network.name)}};
    Json& values = json["values"] = Json::array();
    for (const NetworkValue& one : network.values) values.push_back(value(one, path));
    Json nodes = Json::array();
    for (const NetworkNode& one : network.nodes) nodes.push_back(node(one, path, nesting));
    json["nodes"] = std::move(nodes);
    json["inputs"] = indices(network.inputs);
    json["outputs"] = indices(network.outputs);
    for (const auto& [key, value] : network.metadata) json["metadata"][text(key)] = text(value);
    return json;
  }

 private:
  static const std::string& text(const std::string& text) {
    if (!base::is_utf8(text))
      fail(ErrorCode::kInvalidArgument, "[network] a name or attribute is no UTF-8 text");
    return text;
  }

  // `wanted`, or the first of wanted.2, wanted.3, ... that no tensor has, nor the parts that a
  // package stores beside one.
  std::string unique_name(const std::string& wanted) {
    const std::string first = (wanted.starts_with(kPaddingPrefix) ? "_" : "") + text(wanted);
    std::string name = first;
    for (int i = 2; !is_free(name); ++i) name = fmt::format("{}.{}", first, i);
    for (const char* suffix : {"", kScalesSuffix, kZerosSuffix}) names_.insert(name + suffix);
    return name;
  }
  bool is_free(const std::string& name) const {
    return !names_.contains(name) && !names_.contains(name + kScalesSuffix) &&
           !names_.contains(name + kZerosSuffix);
  }

  Json value(const NetworkValue& value, const std::string& path) {
    Json json = {{"name", text(value.name)}};
    if (value.constant) {
      const NetworkConstant& constant = *value.constant;
      tensors.push_back({unique_name(path + value.name), &constant, nullptr});
      add_type(json, constant.record.dtype, constant.record.shape);
      json["tensor"] = tensors.back().name;
      if (constant.is_packed()) json["packed"] = packed(constant.packed);
      return json;
    }
    if (value.dtype) json["type"] = codec::info(*value.dtype).name;
    if (!value.shape) return json;
    Json shape = Json::array();
    for (const NetworkDim& dim : *value.shape) {
      shape.push_back(dim.value >= 0       ? Json(dim.value)
                      : dim.symbol.empty() ? Json()
                                           : Json(text(dim.symbol)));
    }
    json["shape"] = std::move(shape);
    return json;
  }

  static void add_type(Json& json, codec::DType dtype, const std::vector<int64_t>& shape) {
    json["type"] = codec::info(dtype).name;
    json["shape"] = shape;
  }

  static Json packed(const codec::EncodedTensor& tensor) {
    return {{"type", codec::info(tensor.dtype).name},
            {"group_size", tensor.group_size},
            {"symmetric", tensor.symmetric()}};
  }

  static Json indices(const std::vector<int32_t>& ids) {
    Json json = Json::array();
    for (const int32_t id : ids) json.push_back(id == kNoValue ? Json() : Json(id));
    return json;
  }

  Json node(const NetworkNode& node, const std::string& path, int nesting) {
    Json json = {{"name", text(node.name)}, {"op", text(node.op)}};
    if (!node.domain.empty()) json["domain"] = text(node.domain);
    json["inputs"] = indices(node.inputs);
    json["outputs"] = indices(node.outputs);
    if (node.captures != 0) json["captures"] = node.captures;
    for (const auto& [name, value] : node.attributes) {
      Json& slot = json["attributes"][text(name)];
      const std::string inner = path + node.name + "." + name;
      slot = std::visit([&](const auto& v) { return attribute(v, inner, nesting); }, value);
    }
    return json;
  }

  Json attribute(int64_t value, const std::string&, int) { return {{"int", value}}; }
  Json attribute(double value, const std::string&, int) {
    return {{"float", number_to_json(value)}};
  }
  Json attribute(const std::string& value, const std::string&, int) {
    return {{"string", text(value)}};
  }
  Json attribute(const std::vector<int64_t>& value, const std::string&, int) {
    return {{"ints", value}};
  }
  Json attribute(const std::vector<double>& value, const std::string&, int) {
    Json list = Json::array();
    for (const double one : value) list.push_back(number_to_json(one));
    return {{"floats", std::move(list)}};
  }
  Json attribute(const std::vector<std::string>& value, const std::string&, int) {
    for (const std::string& one : value) text(one);
    return {{"strings", value}};
  }
  Json attribute(const TensorRecord& value, const std::string& path, int) {
    tensors.push_back({unique_name(path), nullptr, &value});
    Json json = {{"tensor", tensors.back().name}};
    add_type(json, value.dtype, value.shape);
    return json;
  }
  Json attribute(const std::shared_ptr<const Network>& value, const std::string& path,
                 int nesting) {
    return {{"graph", network(*value, path + ".", nesting + 1)}};
  }

  // What a package and its safetensors header call something else.
  std::set<std::string> names_ = {kNetworkBlob, "__metadata__"};
};

}  // namespace

Json network_to_json(const Network& network) { return Writer().network(network, "", 0); }

std::vector<NetworkTensor> network_tensors(const Network& network) {
  Writer writer;
  writer.network(network, "", 0);
  return std::move(writer.tensors);
}

}  // namespace packlight::io
