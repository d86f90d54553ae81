#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "packlight/error.h"

namespace packlight::test {

// Runs `action`, which must throw Error, and checks its code and that its text names every given
// part.
inline void expect_error(ErrorCode code, std::initializer_list<std::string> parts,
                         const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& e) {
    EXPECT_STREQ(error_code_name(e.code()), error_code_name(code)) << e.what();
    const std::string text = e.what();
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    for (const std::string& part : parts)
      EXPECT_NE(text.find(part), std::string::npos) << "no '" << part << "' in: " << text;
    return;
  }
  ADD_FAILURE() << "no error, expected " << error_code_name(code);
}

}  // namespace packlight::test
