// Words of a command line that is shown to be copied into a shell. Pure and thread-safe.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace vibe {

// `word` as a POSIX shell reads it: as it is when nothing in it has a meaning there, else in single
// quotes.
std::string ShellQuoted(absl::string_view word);

}  // namespace vibe
