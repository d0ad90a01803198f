#include "manifest/parse.h"

#include <utility>

#include "manifest/app_section.h"
#include "manifest/diagnostics.h"
#include "manifest/document.h"
#include "manifest/references.h"
#include "manifest/source_text.h"

namespace vibe::manifest {
namespace {

std::optional<Manifest> Read(absl::string_view text, Diagnostics& diagnostics) {
  const std::optional<SourceText> source = SourceText::Check(text, diagnostics);
  if (!source) {
    return std::nullopt;
  }
  const std::optional<TreeNode> root = ReadDocument(*source, diagnostics);
  if (!root) {
    return std::nullopt;
  }
  ReadApp app = ReadAppDocument(*root, diagnostics);
  CheckReferences(app.manifest, app.services, diagnostics);
  for (ReadService& read : app.services) {
    app.manifest.services.push_back(std::move(read.service));
  }
  return std::move(app.manifest);
}

}  // namespace

ParseResult Parse(absl::string_view text) {
  Diagnostics diagnostics;
  ParseResult result;
  result.manifest = Read(text, diagnostics);
  if (diagnostics.has_errors()) {
    result.manifest.reset();
  }
  result.diagnostics = std::move(diagnostics).Finish(text);
  return result;
}

}  // namespace vibe::manifest
