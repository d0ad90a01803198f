// vibe.yaml (or the same as JSON) to a checked Manifest, and back to canonical JSON.
// Input is hostile: at most 1 MiB, valid UTF-8, no aliases, no duplicate keys, bounded depth.
// Pure and thread-safe.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "manifest/manifest.h"

namespace vibe::manifest {

inline constexpr size_t kMaxManifestBytes = 1 << 20;

struct Diagnostic {
  enum class Severity { kError, kWarning };
  Severity severity = Severity::kError;
  int line = 0;         // from 1
  int column = 0;       // from 1
  std::string path;     // "services[0].ports[1].container"; empty: the document
  std::string message;  // says what is wrong and what is allowed
};

struct ParseResult {
  std::optional<Manifest> manifest;     // set exactly when no diagnostic is an error
  std::vector<Diagnostic> diagnostics;  // all of them, in the order of the file
};

ParseResult Parse(absl::string_view text);

// "file:line:column: error: path: message" for one; without the path when it is empty.
std::string Format(const Diagnostic& diagnostic, absl::string_view file);

// All errors of `result` as one INVALID_MANIFEST status, one per line.
absl::Status ToStatus(const ParseResult& result, absl::string_view file);

// Canonical: camelCase keys in the manifest's order, defaults left out, no spaces. Parse(ToJson(m))
// == m.
std::string ToJson(const Manifest& manifest);

}  // namespace vibe::manifest
