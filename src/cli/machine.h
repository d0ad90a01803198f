// The machine and the checks of this computer, as vibed reports them, shown as text. Pure.
#pragma once

#include <string>

#include "cli/json_fields.h"

namespace vibe::cli {

std::string RenderMachine(const Json& machine, bool color);

// A line for each of `checks`, with what to do under those that are not well.
std::string RenderChecks(const Json& checks, bool color);
bool HasError(const Json& checks);

}  // namespace vibe::cli
