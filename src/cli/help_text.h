// What --help prints. Pure and thread-safe.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "cli/definitions.h"

namespace vibe::cli {

// `path` is the command's words, as in "machine start"; empty for the root.
std::string RenderHelp(const CommandText& root, const CommandText& command,
                       const std::string& path);

// "vibe open [OPTIONS] PATH"
std::string UsageOf(const CommandText& command, const std::string& path);

// Wrapped at `width` columns; paragraphs stay apart. Each line begins with `indent` spaces and ends
// in a line feed.
std::string Wrap(absl::string_view text, int indent, int width);

}  // namespace vibe::cli
