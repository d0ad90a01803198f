#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status.h"
#include "cli/capabilities.h"
#include "cli/commands.h"
#include "cli/long_call.h"
#include "cli/project.h"
#include "cli/text.h"

namespace vibe::cli {
namespace {

namespace fs = std::filesystem;

// vibed has another working directory than the user.
absl::StatusOr<std::string> AbsolutePath(const std::string& given) {
  std::error_code error;
  const fs::path path = fs::canonical(given, error);
  if (error) {
    return WithAdvice(
        absl::NotFoundError(absl::StrCat("cannot open ", Escape(given), ": ", error.message())),
        "give the folder of an app, or its vibe.yaml");
  }
  return path.string();
}

std::string NameOfApp(const Json& inspection) {
  const std::string name = StringAt(ObjectAt(inspection, "app"), "name");
  return name.empty() ? "The app" : name;
}

absl::Status CannotAsk(const Json& inspection, const std::vector<const Capability*>& undecided) {
  const std::string wishes =
      absl::StrJoin(undecided, ", and to ", [](std::string* out, const Capability* capability) {
        absl::StrAppend(out, DescribeCapability(capability->name));
      });
  return WithAdvice(absl::FailedPreconditionError(
                        absl::StrCat(Escape(NameOfApp(inspection)), " wants to ", wishes,
                                     ", and nobody can be asked: this is not a terminal")),
                    "say --yes to allow all of it, or run the command on a terminal and answer");
}

// The answers to send: every capability with --yes, else those that had none yet.
absl::StatusOr<Json> Decide(const Session& session, const Json& inspection, bool yes) {
  Json decisions = Json::object();
  const std::vector<Capability> capabilities = ParseCapabilities(inspection);
  std::vector<const Capability*> undecided;
  for (const Capability& capability : capabilities) {
    if (yes) {
      decisions[capability.name] = true;
    } else if (!capability.decision) {
      undecided.push_back(&capability);
    }
  }
  if (!undecided.empty() && !session.CanAsk()) {
    return CannotAsk(inspection, undecided);
  }
  for (const Capability* capability : undecided) {
    VIBE_ASSIGN_OR_RETURN(const bool allowed,
                          session.Ask(CapabilityQuestion(NameOfApp(inspection), *capability)));
    decisions[capability->name] = allowed;
  }
  return decisions;
}

}  // namespace

absl::StatusOr<int> RunOpen(Session& session, const Invocation& invocation) {
  VIBE_ASSIGN_OR_RETURN(const std::string path, AbsolutePath(invocation.path));
  Json body;
  body["path"] = path;
  if (!invocation.new_name.empty()) {
    body["name"] = invocation.new_name;
  }
  const ApiRequest inspect = LongCall("POST", "/v1/inspect", body);
  VIBE_ASSIGN_OR_RETURN(const Json inspection,
                        session.Run(absl::StrCat("looking at ", invocation.path), inspect));
  VIBE_ASSIGN_OR_RETURN(const Json decisions, Decide(session, inspection, invocation.yes));
  if (!decisions.empty()) {
    body["decisions"] = decisions;
  }
  if (!invocation.ports.empty()) {
    body["ports"] = invocation.ports;
  }
  const std::string name = StringAt(inspection, "name");
  const std::string before = StringAt(ObjectAt(inspection, "project"), "path");
  if (!before.empty() && before != StringAt(inspection, "path")) {
    session.Note(absl::StrCat("note: ", Escape(name), " was opened from ", Escape(before),
                              " before; this opens it from ", Escape(StringAt(inspection, "path")),
                              ", with another --name it would be a project of its own"));
  }
  VIBE_ASSIGN_OR_RETURN(const Json project,
                        session.Run(absl::StrCat("opening ", name.empty() ? invocation.path : name),
                                    LongCall("POST", "/v1/projects", body)));
  session.Print(absl::StrCat(DescribeProject(ParseProject(project)), "\n"), project);
  session.NoteDisk(project);
  return kExitOk;
}

}  // namespace vibe::cli
