// completion, man and the words that the completion scripts ask for.
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status.h"
#include "cli/commands.h"
#include "cli/completion.h"
#include "cli/man_page.h"
#include "cli/project.h"

namespace vibe::cli {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxProjects = 1000;
constexpr uint64_t kMaxProjectFile = 1 << 20;
constexpr absl::Duration kPatience = absl::Seconds(2);  // somebody waits with a finger on the key

// What vibed wrote down, for when it does not run. docs/formats/library.md describes the files.
std::vector<Project> WrittenProjects(const Session& session) {
  std::vector<Project> projects;
  std::error_code error;
  for (fs::directory_iterator entry(session.home() / "projects", error), end;
       !error && entry != end && projects.size() < kMaxProjects; entry.increment(error)) {
    const absl::StatusOr<std::string> text =
        ReadFile(entry->path() / "project.json", kMaxProjectFile);
    const Json record = text.ok() ? Json::parse(*text, nullptr, false) : Json();
    if (const Project project = ParseProject(record);
        !project.name.empty() && !BoolAt(record, "removed")) {
      projects.push_back(project);
    }
  }
  return projects;
}

std::vector<Project> KnownProjects(const Session& session) {
  ApiRequest request;
  request.target = "/v1/projects";
  request.idle = kPatience;
  const absl::StatusOr<Json> answer = session.NewClient()->Call(request);
  if (!answer.ok()) {
    return WrittenProjects(session);
  }
  std::vector<Project> projects;
  for (const Json& project : ArrayAt(*answer, "projects")) {
    projects.push_back(ParseProject(project));
  }
  return projects;
}

// Of the machine only: nobody else knows them.
std::vector<std::string> KnownSnapshots(const Session& session, const std::string& ref) {
  ApiRequest request;
  request.target = ProjectTarget(ref, "/snapshots");
  request.idle = kPatience;
  const absl::StatusOr<Json> answer = session.NewClient()->Call(request);
  std::vector<std::string> ids;
  if (answer.ok()) {
    for (const Json& snapshot : ArrayAt(*answer, "snapshots")) {
      ids.push_back(StringAt(snapshot, "id"));
    }
  }
  return ids;
}

}  // namespace

absl::StatusOr<int> RunCompletion(Session& session, const Invocation& invocation) {
  VIBE_ASSIGN_OR_RETURN(const std::string script,
                        RenderCompletion(invocation.shell, DescribeCommands()));
  session.Print(script, Json{{"shell", invocation.shell}, {"script", script}});
  return kExitOk;
}

absl::StatusOr<int> RunMan(Session& session, const Invocation&) {
  const std::string page = RenderManPage(DescribeCommands());
  session.Print(page, Json{{"page", page}});
  return kExitOk;
}

absl::StatusOr<int> RunComplete(Session& session, const Invocation& invocation) {
  const std::string kind = invocation.words.empty() ? "" : invocation.words[0];
  const std::string ref = invocation.words.size() > 1 ? invocation.words[1] : "";
  if (kind == "snapshots" && !ref.empty()) {
    for (const std::string& id : KnownSnapshots(session, ref)) {
      session.Write(absl::StrCat(id, "\n"));
    }
    return kExitOk;
  }
  for (const Project& project : KnownProjects(session)) {
    if (kind == "projects") {
      session.Write(absl::StrCat(project.name, "\n"));
    } else if (kind == "services" && (project.name == ref || project.id == ref)) {
      for (const ProjectService& service : project.services) {
        session.Write(absl::StrCat(service.name, "\n"));
      }
    }
  }
  return kExitOk;
}

}  // namespace vibe::cli
