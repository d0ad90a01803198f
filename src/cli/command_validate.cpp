#include <algorithm>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status.h"
#include "cli/commands.h"
#include "cli/text.h"
#include "manifest/parse.h"

namespace vibe::cli {
namespace {

namespace fs = std::filesystem;
using manifest::Diagnostic;

absl::StatusOr<fs::path> FindManifest(const std::string& given) {
  std::error_code error;
  const fs::file_status status = fs::status(given, error);
  if (fs::is_directory(status)) {
    const fs::path path = fs::path(given) / "vibe.yaml";
    if (!fs::exists(path, error)) {
      return WithAdvice(
          absl::NotFoundError(absl::StrCat("there is no vibe.yaml in ", Escape(given))),
          "give the folder of an app, or its vibe.yaml");
    }
    return path;
  }
  if (!fs::is_regular_file(status)) {
    return WithAdvice(absl::NotFoundError(absl::StrCat("there is no file ", Escape(given))),
                      "give the folder of an app, or its vibe.yaml");
  }
  return given;
}

Json ToJson(const Diagnostic& diagnostic) {
  Json json;
  json["severity"] = diagnostic.severity == Diagnostic::Severity::kError ? "error" : "warning";
  json["line"] = diagnostic.line;
  json["column"] = diagnostic.column;
  json["path"] = diagnostic.path;
  json["message"] = diagnostic.message;
  return json;
}

std::string Count(size_t count, absl::string_view noun) {
  return absl::StrCat(count, " ", noun, count == 1 ? "" : "s");
}

std::string Verdict(const manifest::ParseResult& result, const std::string& file) {
  if (result.manifest) {
    return absl::StrCat(Escape(file), " is valid: ", Escape(result.manifest->name), " ",
                        Escape(result.manifest->version), ", ",
                        Count(result.manifest->services.size(), "service"), "\n");
  }
  const auto errors =
      std::count_if(result.diagnostics.begin(), result.diagnostics.end(),
                    [](const Diagnostic& d) { return d.severity == Diagnostic::Severity::kError; });
  return absl::StrCat(Escape(file), " has ", Count(static_cast<size_t>(errors), "error"), "\n");
}

}  // namespace

absl::StatusOr<int> RunValidate(Session& session, const Invocation& invocation) {
  VIBE_ASSIGN_OR_RETURN(const fs::path path, FindManifest(invocation.path));
  VIBE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, manifest::kMaxManifestBytes));
  const manifest::ParseResult result = manifest::Parse(text);
  Json document;
  document["file"] = path.string();
  document["valid"] = result.manifest.has_value();
  document["diagnostics"] = Json::array();
  std::string lines;
  for (const Diagnostic& diagnostic : result.diagnostics) {
    document["diagnostics"].push_back(ToJson(diagnostic));
    absl::StrAppend(&lines, Escape(manifest::Format(diagnostic, path.string())), "\n");
  }
  session.Print(absl::StrCat(lines, Verdict(result, path.string())), document);
  return result.manifest ? kExitOk : kExitFailed;
}

}  // namespace vibe::cli
