#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

// The part of Jinja that chat templates are written in, parsed. Semantics: Jinja 3.1 with
// trim_blocks and lstrip_blocks, as transformers sets it up. Whatever is not in this part is
// refused while parsing.

namespace packlight::text::jinja {

struct Expression {
  enum class Kind {
    kString,
    kInteger,
    kTrue,
    kFalse,
    kNone,
    kName,
    kList,
    kDict,
    kAttribute,  // parts[0].text
    kItem,       // parts[0][parts[1]]
    kSlice,      // parts[0][parts[1]:parts[2]:parts[3]], missing ones null
    kCall,       // parts[0](parts[1..], names[i] = … for the last names.size() of them)
    kFilter,     // parts[0] | text(parts[1..])
    kTest,       // parts[0] is text(parts[1..]); negated
    kNot,
    kMinus,
    kBinary,      // text: + - * // % ~ and or
    kCompare,     // parts[0] texts[0] parts[1] texts[1] …
    kConditional  // parts[0] if parts[1] else parts[2] (null: undefined)
  };
  Kind kind = Kind::kNone;
  std::string text;
  int64_t integer = 0;
  bool negated = false;
  int height = 1;  // of the tree below; limited, because evaluation recurses
  std::vector<std::string> names;
  std::vector<std::unique_ptr<Expression>> parts;
};
using ExpressionPtr = std::unique_ptr<Expression>;

struct Statement;
using Block = std::vector<Statement>;

struct Statement {
  enum class Kind { kText, kOutput, kIf, kFor, kSet };
  Kind kind = Kind::kText;
  std::string text;                  // kText
  std::vector<std::string> targets;  // kFor: names; kSet: a name, or a namespace and its member
  // kOutput: {value}; kIf: one condition per block (the last block may be "else"); kFor: {iterable,
  // filter or null}; kSet: {value}.
  std::vector<ExpressionPtr> expressions;
  std::vector<Block> blocks;  // kIf: branches; kFor: {body, else}
};

// Errors: Unsupported with the construct that is not known.
Block parse(std::string_view source);

// Shared by parser and interpreter: Unsupported with the advice to use --raw.
[[noreturn]] void refuse(std::string_view what);

}  // namespace packlight::text::jinja
