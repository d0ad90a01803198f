// The manual page vibe(1), made from the table of commands, in the macros of man(7). Pure; without
// a date or a version, so that it changes only when the commands do.
#pragma once

#include <string>

#include "cli/definitions.h"

namespace vibe::cli {

std::string RenderManPage(const CommandText& root);

}  // namespace vibe::cli
