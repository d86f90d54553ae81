#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "io/tensor_record.h"

namespace packlight::data {

// The labels of a dataset, checked: all of one kind, classes in range.
class Labels {
 public:
  Labels() = default;  // none

  // From an array whose first dimension counts samples. `origin` names the file. Errors:
  // InvalidArgument as dataset.h lists them.
  static Labels from_array(const io::TensorRecord& record, int64_t samples,
                           const DatasetOptions& options, const std::string& origin);
  // From labels one by one. `wheres[i]` names label i ("'list.txt' line 3").
  static Labels from_list(std::vector<Label> labels, const std::vector<std::string>& wheres,
                          const DatasetOptions& options, const std::string& origin);

  LabelKind kind() const { return kind_; }
  int64_t classes() const { return classes_; }
  Label at(int64_t index) const {
    return kind_ == LabelKind::kNone ? Label() : labels_[static_cast<size_t>(index)];
  }

 private:
  LabelKind kind_ = LabelKind::kNone;
  int64_t classes_ = 0;
  std::vector<Label> labels_;
};

LabelKind kind_of(const Label& label);
const char* label_kind_name(LabelKind kind);  // "no labels", "classes", ...

}  // namespace packlight::data
