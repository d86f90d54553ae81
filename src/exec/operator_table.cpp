#include <unordered_map>

#include "exec/operators.h"

namespace packlight::exec {

OperatorFunction find_operator(std::string_view op, std::string_view domain) {
  static const auto table = [] {
    std::unordered_multimap<std::string_view, const OperatorEntry*> entries;
    for (const auto family : {elementwise_operators(), matrix_operators(), movement_operators(),
                              transformer_operators()}) {
      for (const OperatorEntry& entry : family) entries.emplace(entry.op, &entry);
    }
    return entries;
  }();
  const auto [begin, end] = table.equal_range(op);
  for (auto it = begin; it != end; ++it) {
    if (it->second->domain == domain) return it->second->run;
  }
  return nullptr;
}

}  // namespace packlight::exec
