#include "data/labels.h"

#include <algorithm>

#include "base/fail.h"
#include "data/array.h"

namespace packlight::data {

LabelKind kind_of(const Label& label) { return static_cast<LabelKind>(label.index()); }

const char* label_kind_name(LabelKind kind) {
  constexpr const char* kNames[] = {"no labels", "classes", "float vectors", "integer sequences"};
  return kNames[static_cast<size_t>(kind)];
}

Labels Labels::from_array(const io::TensorRecord& record, int64_t samples,
                          const DatasetOptions& options, const std::string& origin) {
  if (options.labels == LabelKind::kNone) return {};
  if (record.shape.empty() || record.shape[0] != samples) {
    fail(ErrorCode::kInvalidArgument,
         "[data] '{}': {} labels for {} samples: there must be one for each (shape {})", origin,
         record.shape.empty() ? 0 : record.shape[0], samples, shape_text(record.shape));
  }
  const bool floats = buffer_dtype(record.dtype, origin) == codec::DType::kF32;
  const int64_t width = samples == 0 ? 0 : record.elements() / samples;
  std::vector<Label> labels;
  std::vector<std::string> wheres;
  labels.reserve(samples);
  wheres.reserve(samples);
  for (int64_t i = 0; i < samples; ++i) {
    const Array values = convert(record, i * width, {width});
    if (floats) {
      labels.emplace_back(std::vector<float>(values.f32().begin(), values.f32().end()));
    } else {
      std::vector<int64_t> integers;
      if (values.dtype == codec::DType::kI64) {
        integers.assign(values.i64().begin(), values.i64().end());
      } else {
        integers.assign(values.u8().begin(), values.u8().end());
      }
      if (record.shape.size() == 1) {
        labels.emplace_back(integers[0]);
      } else {
        labels.emplace_back(std::move(integers));
      }
    }
    wheres.push_back(fmt::format("'{}' sample {}", origin, i));
  }
  return from_list(std::move(labels), wheres, options, origin);
}

Labels Labels::from_list(std::vector<Label> labels, const std::vector<std::string>& wheres,
                         const DatasetOptions& options, const std::string& origin) {
  Labels out;
  if (options.labels == LabelKind::kNone || labels.empty()) return out;
  out.kind_ = kind_of(labels[0]);
  if (options.labels && *options.labels != out.kind_) {
    fail(ErrorCode::kInvalidArgument, "[data] '{}': the labels are {}, {} are wanted", origin,
         label_kind_name(out.kind_), label_kind_name(*options.labels));
  }
  int64_t largest = -1;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (kind_of(labels[i]) != out.kind_) {
      fail(ErrorCode::kInvalidArgument, "[data] {}: the label is of {}, those before it of {}",
           wheres[i], label_kind_name(kind_of(labels[i])), label_kind_name(out.kind_));
    }
    if (out.kind_ == LabelKind::kClass) {
      const int64_t index = std::get<int64_t>(labels[i]);
      if (index < 0 || (options.classes > 0 && index >= options.classes) || index == INT64_MAX) {
        fail(ErrorCode::kInvalidArgument, "[data] {}: class {} is not in 0 .. {}", wheres[i], index,
             options.classes > 0 ? std::to_string(options.classes - 1) : "(classes - 1)");
      }
      largest = std::max(largest, index);
    } else if (out.kind_ == LabelKind::kVector) {
      const size_t want = std::get<std::vector<float>>(labels[0]).size();
      if (const size_t got = std::get<std::vector<float>>(labels[i]).size(); got != want) {
        fail(ErrorCode::kInvalidArgument,
             "[data] {}: a label of {} numbers, those before it have {}", wheres[i], got, want);
      }
    }
  }
  if (out.kind_ == LabelKind::kClass)
    out.classes_ = options.classes > 0 ? options.classes : largest + 1;
  out.labels_ = std::move(labels);
  return out;
}

}  // namespace packlight::data
