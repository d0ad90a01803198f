// Feeds anything to the manifest's parser. It must end, say why it refuses, and read back what it
// wrote. CMakeLists.txt beside it says how to build and run it.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/strings/string_view.h"
#include "manifest/parse.h"

namespace {

using vibe::manifest::Diagnostic;
using vibe::manifest::ParseResult;

void Require(bool holds, const char* what) {
  if (!holds) {
    std::fprintf(stderr, "broken promise: %s\n", what);
    std::abort();
  }
}

void CheckDiagnostics(const ParseResult& result) {
  bool has_error = false;
  int line = 1;
  int column = 1;
  for (const Diagnostic& diagnostic : result.diagnostics) {
    has_error = has_error || diagnostic.severity == Diagnostic::Severity::kError;
    Require(diagnostic.line > line || (diagnostic.line == line && diagnostic.column >= column),
            "diagnostics are in the order of the file");
    line = diagnostic.line;
    column = diagnostic.column;
    Require(!diagnostic.message.empty(), "every diagnostic says something");
    Require(vibe::manifest::Format(diagnostic, "f").find_first_of("\n\x1b") == std::string::npos,
            "a diagnostic is one line that a terminal can show");
  }
  Require(result.manifest.has_value() != has_error, "a manifest exactly when there is no error");
  Require(vibe::manifest::ToStatus(result, "f").ok() != has_error, "the status agrees");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const ParseResult result = vibe::manifest::Parse(text);
  CheckDiagnostics(result);
  if (result.manifest) {
    const std::string json = vibe::manifest::ToJson(*result.manifest);
    const ParseResult again = vibe::manifest::Parse(json);
    Require(again.manifest.has_value(), "what was written can be read");
    Require(*again.manifest == *result.manifest, "what was written is read as the same");
    Require(vibe::manifest::ToJson(*again.manifest) == json, "the written form is canonical");
  }
  return 0;
}
