// Manifests that tests change a little.
#pragma once

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "manifest/parse.h"

namespace vibe::manifest {

// Four lines; what follows starts in line 5.
inline constexpr char kHead[] =
    "kind: vibe.app/v1\n"
    "id: com.example.notes\n"
    "name: Notes\n"
    "version: 1.0.0\n";

inline std::string WithHead(absl::string_view rest) {
  return absl::StrCat(kHead, rest);
}

// The keys of a service whose name and image are there; `rest` starts in line 8, indented by four.
inline std::string WithService(absl::string_view rest) {
  return absl::StrCat(kHead, "services:\n  - name: web\n    image: nginx\n", rest);
}

inline std::string Replaced(std::string text, const std::string& from, const std::string& to) {
  return text.replace(text.find(from), from.size(), to);
}

// All diagnostics as "line:column: severity: path: message", one per line.
inline std::string Report(absl::string_view text) {
  std::string report;
  for (const Diagnostic& diagnostic : Parse(text).diagnostics) {
    absl::StrAppend(&report, Format(diagnostic, "f").substr(2), "\n");
  }
  return report;
}

}  // namespace vibe::manifest
