#include "io/network_json.h"

#include <cmath>
#include <limits>
#include <unordered_set>

#include "base/fail.h"

namespace packlight::io {
namespace {

constexpr int64_t kLargestDim = int64_t{1} << 40;
constexpr codec::DType kDenseTypes[] = {codec::DType::kF64,  codec::DType::kF32, codec::DType::kF16,
                                        codec::DType::kBF16, codec::DType::kI64, codec::DType::kI32,
                                        codec::DType::kI16,  codec::DType::kI8,  codec::DType::kU8,
                                        codec::DType::kBool};
constexpr codec::DType kPackedTypes[] = {codec::DType::kTileInt4, codec::DType::kTileInt8,
                                         codec::DType::kTileF16};

// Where something stands, for errors: "'x.plk' node 'a' (Loop) attribute 'body' node 'b' (Add)".
// Names are cut short: everything in a subgraph would carry a hostile one along.
using Place = std::string;

template <class... Args>
[[noreturn]] void corrupt(const Place& place, fmt::format_string<Args...> text, Args&&... args) {
  fail(ErrorCode::kCorrupt, "[network] {}: {}", place,
       fmt::format(text, std::forward<Args>(args)...));
}

// What is wrong, cut short: a hostile file may hold megabytes of it.
std::string shown(const Json& json) {
  constexpr size_t kMost = 60;
  if (json.is_structured()) return json.is_array() ? "a list" : "an object";
  std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > kMost) text = text.substr(0, kMost) + "...";
  return text;
}

// Null when absent.
const Json* find(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

const Json& member(const Json& object, const char* key, const Place& place) {
  const Json* value = find(object, key);
  if (value == nullptr) corrupt(place, "'{}' is missing", key);
  return *value;
}

const Json& list(const Json& object, const char* key, const Place& place) {
  const Json& value = member(object, key, place);
  if (!value.is_array()) corrupt(place, "'{}' is {}, not a list", key, shown(value));
  return value;
}

std::string as_text(const Json& value, const char* what, const Place& place) {
  if (!value.is_string()) corrupt(place, "'{}' is {}, not text", what, shown(value));
  return value.get<std::string>();
}

std::string name_of(const Json& object, const char* key, const Place& place) {
  std::string name = as_text(member(object, key, place), key, place);
  if (name.empty()) corrupt(place, "'{}' is empty", key);
  return name;
}

int64_t as_integer(const Json& value, const char* what, const Place& place) {
  const bool fits =
      value.is_number_unsigned() ? value.get<uint64_t>() <= INT64_MAX : value.is_number_integer();
  if (!fits) corrupt(place, "'{}' is {}, not a 64-bit integer", what, shown(value));
  return value.get<int64_t>();
}

double as_number(const Json& value, const char* what, const Place& place) {
  if (value.is_number()) return value.get<double>();
  if (value == "nan") return std::numeric_limits<double>::quiet_NaN();
  if (value == "inf") return std::numeric_limits<double>::infinity();
  if (value == "-inf") return -std::numeric_limits<double>::infinity();
  corrupt(place, "'{}' is {}, not a number", what, shown(value));
}

codec::DType as_type(const Json& value, std::span<const codec::DType> known, const Place& place) {
  const std::string name = as_text(value, "type", place);
  for (const codec::DType dtype : known) {
    if (codec::info(dtype).name == name) return dtype;
  }
  corrupt(place, "unknown type {}", shown(value));
}

std::vector<NetworkDim> as_shape(const Json& value, const Place& place) {
  if (!value.is_array()) corrupt(place, "'shape' is {}, not a list", shown(value));
  if (value.size() > kMaxNetworkRank)
    corrupt(place, "a shape of {} dimensions, more than {}", value.size(), kMaxNetworkRank);
  std::vector<NetworkDim> shape;
  int64_t product = 1;  // of the known ones; zero must not hide the size of the others
  for (const Json& dim : value) {
    NetworkDim one;
    if (dim.is_string()) {
      one.symbol = dim.get<std::string>();
      if (one.symbol.empty()) corrupt(place, "a dimension's name is empty");
    } else if (!dim.is_null()) {
      one.value = as_integer(dim, "shape", place);
      if (one.value < 0) corrupt(place, "dimension {}", one.value);
      if (__builtin_mul_overflow(product, std::max<int64_t>(1, one.value), &product) ||
          product > kLargestDim)
        corrupt(place, "its shape has more than 2^40 elements");
    }
    shape.push_back(std::move(one));
  }
  return shape;
}

// "packed": the tiles of a matrix whose rows are the first dimension of the shape.
void read_packing(const Json& json, NetworkTensorSpec& spec, const Place& place) {
  if (!json.is_object()) corrupt(place, "'packed' is {}, not an object", shown(json));
  codec::EncodedTensor& tiles = spec.packed.emplace();
  tiles.dtype = as_type(member(json, "type", place), kPackedTypes, place);
  tiles.group_size = as_integer(member(json, "group_size", place), "group_size", place);
  const Json& symmetric = member(json, "symmetric", place);
  if (!symmetric.is_boolean()) corrupt(place, "'symmetric' is {}, not a boolean", shown(symmetric));
  spec.symmetric = symmetric.get<bool>();
  if (spec.dtype != codec::DType::kF32 || spec.shape.empty())
    corrupt(place, "a packed tensor stands for a matrix of F32");
  tiles.rows = spec.shape[0];
  tiles.cols = 1;
  for (size_t i = 1; i < spec.shape.size(); ++i)
    tiles.cols *= spec.shape[i];  // as_shape() bounds it
}

void check_packing(const NetworkTensorSpec& spec, const NetworkConstant& read, const Place& place) {
  const codec::EncodedTensor &wanted = *spec.packed, &tiles = read.packed;
  if (tiles.dtype != wanted.dtype || tiles.group_size != wanted.group_size ||
      tiles.symmetric() != spec.symmetric)
    corrupt(place, "tensor '{}' is packed in another way than the network says", spec.name);
  if (!read.record.bytes.empty() || tiles.rows != wanted.rows || tiles.cols != wanted.cols)
    corrupt(place, "tensor '{}' is {}x{} tiles, which are not its shape", spec.name, tiles.rows,
            tiles.cols);
  codec::check_sizes(tiles, spec.name);
}

// The tensor that an object {"tensor", "type", "shape"} names.
NetworkConstant as_constant(const Json& json, const NetworkTensorReader& tensor,
                            const Place& place) {
  NetworkTensorSpec spec;
  spec.name = name_of(json, "tensor", place);
  spec.dtype = as_type(member(json, "type", place), kDenseTypes, place);
  for (const NetworkDim& dim : as_shape(member(json, "shape", place), place)) {
    if (dim.value < 0) corrupt(place, "the shape of tensor '{}' is not all numbers", spec.name);
    spec.shape.push_back(dim.value);
  }
  if (const Json* packed = find(json, "packed")) read_packing(*packed, spec, place);
  NetworkConstant read = tensor(spec);
  TensorRecord& record = read.record;
  if (record.dtype != spec.dtype || record.shape != spec.shape)
    corrupt(place, "tensor '{}' is not of the type and shape that the network says", spec.name);
  if (spec.packed.has_value() != read.is_packed())
    corrupt(place, "tensor '{}' is {}packed", spec.name, read.is_packed() ? "" : "not ");
  if (spec.packed) {
    check_packing(spec, read, place);
    return read;
  }
  if (record.bytes.size() != tensor_bytes(spec.dtype, spec.shape, spec.name, place))
    corrupt(place, "tensor '{}' has {} bytes, not those of its shape", spec.name,
            record.bytes.size());
  align_record(record);
  return read;
}

// One network: the outermost or a subgraph.
class Reader {
 public:
  Reader(const NetworkTensorReader& tensor, Place place, int nesting)
      : tensor_(tensor), place_(std::move(place)), nesting_(nesting) {}

  Network run(const Json& json) {
    if (nesting_ > kMaxNetworkNesting)
      corrupt(place_, "subgraphs are nested deeper than {}", kMaxNetworkNesting);
    if (!json.is_object()) corrupt(place_, "a network is {}, not an object", shown(json));
    if (const Json* name = find(json, "name")) network_.name = as_text(*name, "name", place_);
    read_values(list(json, "values", place_));
    network_.inputs = indices(list(json, "inputs", place_), "inputs", place_, false);
    for (const int32_t id : network_.inputs) add_input(id);
    for (const Json& node : list(json, "nodes", place_)) read_node(node);
    network_.outputs = indices(list(json, "outputs", place_), "outputs", place_, false);
    for (const int32_t id : network_.outputs) expect_made(id, place_);
    if (const Json* metadata = find(json, "metadata")) read_metadata(*metadata);
    return std::move(network_);
  }

 private:
  void read_metadata(const Json& json) {
    if (!json.is_object()) corrupt(place_, "'metadata' is {}, not an object", shown(json));
    for (const auto& [key, value] : json.items())
      network_.metadata[key] = as_text(value, "metadata", place_);
  }

  void read_values(const Json& json) {
    if (json.size() > INT32_MAX) corrupt(place_, "{} values are too many", json.size());
    network_.values.reserve(json.size());
    std::unordered_set<std::string> names;
    for (const Json& one : json) {
      const Place place = fmt::format("{} value {}", place_, network_.values.size());
      if (!one.is_object()) corrupt(place, "it is {}, not an object", shown(one));
      NetworkValue value;
      value.name = name_of(one, "name", place);
      if (!names.insert(value.name).second) corrupt(place, "two values are named '{}'", value.name);
      if (one.contains("tensor")) {
        value.constant = as_constant(one, tensor_, fmt::format("{} '{:.60}'", place, value.name));
        value.shape.emplace();
        for (const int64_t dim : value.constant->record.shape) value.shape->push_back({dim, ""});
      } else {
        if (const Json* type = find(one, "type")) value.dtype = as_type(*type, kDenseTypes, place);
        if (const Json* shape = find(one, "shape")) value.shape = as_shape(*shape, place);
      }
      made_.push_back(value.constant.has_value());
      network_.values.push_back(std::move(value));
    }
    is_input_.resize(made_.size());
  }

  std::vector<int32_t> indices(const Json& json, const char* what, const Place& place,
                               bool may_be_absent) const {
    std::vector<int32_t> ids;
    for (const Json& one : json) {
      if (one.is_null() && may_be_absent) {
        ids.push_back(kNoValue);
        continue;
      }
      const int64_t id = as_integer(one, what, place);
      if (id < 0 || id >= static_cast<int64_t>(network_.values.size()))
        corrupt(place, "'{}' has {}, but there are {} values", what, id, network_.values.size());
      ids.push_back(static_cast<int32_t>(id));
    }
    return ids;
  }

  const std::string& name_of_value(int32_t id) const { return network_.values[id].name; }

  // A constant may be an input: it is what the input is unless something is given.
  void add_input(int32_t id) {
    if (is_input_[id]) corrupt(place_, "input '{}' is listed twice", name_of_value(id));
    is_input_[id] = true;
    made_[id] = true;
  }

  void expect_made(int32_t id, const Place& place) const {
    if (!made_[id]) corrupt(place, "value '{}' is used before it is made", name_of_value(id));
  }

  void read_node(const Json& json) {
    Place place = fmt::format("{} node {}", place_, network_.nodes.size());
    if (!json.is_object()) corrupt(place, "it is {}, not an object", shown(json));
    NetworkNode node;
    node.name = name_of(json, "name", place);
    if (!node_names_.insert(node.name).second)
      corrupt(place, "two nodes are named '{}'", node.name);
    node.op = name_of(json, "op", place);
    place = fmt::format("{} node '{:.60}' ({:.60})", place_, node.name, node.op);
    if (const Json* domain = find(json, "domain")) node.domain = as_text(*domain, "domain", place);
    node.inputs = indices(list(json, "inputs", place), "inputs", place, true);
    node.outputs = indices(list(json, "outputs", place), "outputs", place, true);
    for (const int32_t id : node.inputs) {
      if (id != kNoValue) expect_made(id, place);
    }
    read_attributes(json, node, place);
    check_captures(json, node, place);
    check_control(node, place);
    add_outputs(node, place);
    network_.nodes.push_back(std::move(node));
  }

  void add_outputs(const NetworkNode& node, const Place& place) {
    bool any = false;
    for (const int32_t id : node.outputs) {
      if (id == kNoValue) continue;
      if (made_[id]) corrupt(place, "value '{}' is made twice", name_of_value(id));
      made_[id] = any = true;
    }
    if (!any) corrupt(place, "it makes nothing");
  }

  void read_attributes(const Json& json, NetworkNode& node, const Place& place) {
    const Json* attributes = find(json, "attributes");
    if (attributes == nullptr) return;
    if (!attributes->is_object())
      corrupt(place, "'attributes' is {}, not an object", shown(*attributes));
    for (const auto& [name, value] : attributes->items()) {
      const Place inner = fmt::format("{} attribute '{:.60}'", place, name);
      if (!value.is_object() || value.empty())
        corrupt(inner, "it is {}, not an object of its kind", shown(value));
      read_attribute(name, value, node, inner);
    }
  }

  template <class T, class Fn>
  static std::vector<T> each(const Json& value, const char* kind, const Place& place,
                             const Fn& fn) {
    if (!value.is_array()) corrupt(place, "'{}' is {}, not a list", kind, shown(value));
    std::vector<T> all;
    for (const Json& one : value) all.push_back(fn(one, kind, place));
    return all;
  }

  void read_attribute(const std::string& name, const Json& json, NetworkNode& node,
                      const Place& place) {
    const std::string kind = json.contains("tensor") ? "tensor" : json.begin().key();
    const Json& value = json.begin().value();
    auto& slot = node.attributes[name];
    if (kind != "tensor" && json.size() != 1) corrupt(place, "it has several kinds");
    if (kind == "int") {
      slot = as_integer(value, "int", place);
    } else if (kind == "float") {
      slot = as_number(value, "float", place);
    } else if (kind == "string") {
      slot = as_text(value, "string", place);
    } else if (kind == "ints") {
      slot = each<int64_t>(value, "ints", place, as_integer);
    } else if (kind == "floats") {
      slot = each<double>(value, "floats", place, as_number);
    } else if (kind == "strings") {
      slot = each<std::string>(value, "strings", place, as_text);
    } else if (kind == "tensor") {
      NetworkConstant tensor = as_constant(json, tensor_, place);
      if (tensor.is_packed()) corrupt(place, "it is packed");
      slot = std::move(tensor.record);
    } else if (kind == "graph") {
      slot = std::make_shared<const Network>(Reader(tensor_, place, nesting_ + 1).run(value));
    } else {
      corrupt(place, "unknown kind {}", shown(kind));
    }
  }

  static void check_captures(const Json& json, NetworkNode& node, const Place& place) {
    const Json* captures = find(json, "captures");
    if (captures == nullptr) return;
    const int64_t count = as_integer(*captures, "captures", place);
    if (count < 0 || count > static_cast<int64_t>(node.inputs.size()))
      corrupt(place, "{} of {} inputs are captured", count, node.inputs.size());
    node.captures = static_cast<int>(count);
  }

  static const Network& subgraph(const NetworkNode& node, const char* name, const Place& place) {
    const auto it = node.attributes.find(name);
    const auto* graph = it == node.attributes.end()
                            ? nullptr
                            : std::get_if<std::shared_ptr<const Network>>(&it->second);
    if (graph == nullptr) corrupt(place, "attribute '{}' is no graph", name);
    return **graph;
  }

  static void expect_counts(bool fits, const NetworkNode& node, const char* name,
                            const Network& graph, const Place& place) {
    if (fits) return;
    corrupt(place, "'{}' takes {} and makes {} values, which {} inputs and {} outputs do not fit",
            name, graph.inputs.size(), graph.outputs.size(), node.inputs.size(),
            node.outputs.size());
  }

  // What the engine relies on when it runs a subgraph.
  static void check_control(const NetworkNode& node, const Place& place) {
    const bool is_if = node.domain.empty() && node.op == "If",
               is_loop = node.domain.empty() && node.op == "Loop";
    if (!is_if && !is_loop) {
      if (node.captures != 0) corrupt(place, "only If and Loop capture values");
      return;
    }
    const size_t captures = node.captures, inputs = node.inputs.size();
    const size_t needed = is_if ? 1 : 2;
    if (inputs < needed + captures || (is_if && inputs != needed + captures))
      corrupt(place, "{} inputs, of which {} are captured", inputs, captures);
    for (size_t i = is_if ? 0 : 2; i < inputs; ++i) {
      if (node.inputs[i] == kNoValue) corrupt(place, "input {} is absent", i);
    }
    if (is_loop) {
      const Network& body = subgraph(node, "body", place);
      const size_t carried = inputs - 2 - captures;
      const bool fits = body.inputs.size() == inputs && body.outputs.size() >= 1 + carried &&
                        node.outputs.size() <= body.outputs.size() - 1;
      return expect_counts(fits, node, "body", body, place);
    }
    for (const char* name : {"then_branch", "else_branch"}) {
      const Network& branch = subgraph(node, name, place);
      const bool fits =
          branch.inputs.size() == captures && branch.outputs.size() >= node.outputs.size();
      expect_counts(fits, node, name, branch, place);
    }
  }

  const NetworkTensorReader& tensor_;
  const Place place_;
  const int nesting_;
  Network network_;
  std::vector<bool> made_, is_input_;  // by value
  std::unordered_set<std::string> node_names_;
};

}  // namespace

Network network_from_json(const Json& json, const NetworkTensorReader& tensor,
                          std::string_view origin) {
  return Reader(tensor, fmt::format("'{}'", origin), 0).run(json);
}

}  // namespace packlight::io
