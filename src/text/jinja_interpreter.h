#pragma once

#include <string>

#include "text/jinja_syntax.h"
#include "text/jinja_value.h"

namespace packlight::text::jinja {

// Renders a parsed template with these variables. Errors: InvalidArgument with the template's own
// words where it calls raise_exception; Unsupported for an operation that is not known or would be
// an error in Jinja, and for a template that runs away (see jinja_budget.h).
std::string render(const Block& block, Dict variables);

}  // namespace packlight::text::jinja
