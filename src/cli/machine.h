// The machine and the checks of this computer, as vibed reports them, shown as text. Pure.
#pragma once

#include <string>

#include "cli/json_fields.h"

namespace vibe::cli {

std::string RenderMachine(const Json& machine, bool color);

// What a reset takes away: "all 2 projects (a, b) with their data, all images, and frees 1.2 GB".
std::string DescribeLoss(const Json& reset);

// A line of the machine's log with its line feed.
std::string RenderMachineLine(const Json& line, bool escape);

// A line for each of `checks`, with what to do under those that are not well.
std::string RenderChecks(const Json& checks, bool color);
bool HasError(const Json& checks);

}  // namespace vibe::cli
