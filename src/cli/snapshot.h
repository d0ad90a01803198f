// Snapshots as vibed reports them, and how they are shown. Pure.
#pragma once

#include <string>

#include "cli/json_fields.h"
#include "cli/project.h"

namespace vibe::cli {

// `vibe snapshots NAME`: a line per snapshot, and one per complaint about it.
std::string RenderSnapshots(const Json& snapshots, const TableStyle& style);

}  // namespace vibe::cli
