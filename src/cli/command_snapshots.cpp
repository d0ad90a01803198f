// save, snapshots, restore, duplicate and snapshot rm.
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/shell.h"
#include "base/status.h"
#include "base/utf8.h"
#include "cli/capabilities.h"
#include "cli/commands.h"
#include "cli/long_call.h"
#include "cli/project.h"
#include "cli/snapshot.h"
#include "cli/text.h"

namespace vibe::cli {
namespace {

// JSON cannot carry anything else.
absl::Status CheckUtf8(const char* what, const std::string& text) {
  return ValidUtf8(text) == text
             ? absl::OkStatus()
             : absl::InvalidArgumentError(absl::StrCat(what, " is not UTF-8: ", Escape(text)));
}

absl::StatusOr<Json> ParseLabels(const std::vector<std::string>& words) {
  Json labels = Json::object();
  for (const std::string& word : words) {
    const size_t equals = word.find('=');
    if (equals == std::string::npos || equals == 0) {
      return WithAdvice(absl::InvalidArgumentError(
                            absl::StrCat("the label \"", Escape(word), "\" has no key and value")),
                        "write it as --label KEY=VALUE");
    }
    VIBE_RETURN_IF_ERROR(CheckUtf8("the label", word));
    const std::string key = word.substr(0, equals);
    if (labels.contains(key)) {
      return absl::InvalidArgumentError(
          absl::StrCat("the label ", Escape(key), " is given two values"));
    }
    labels[key] = word.substr(equals + 1);
  }
  return labels;
}

std::string Command(absl::string_view verb, const std::string& name) {
  return absl::StrCat("vibe ", verb, " ", Escape(name));
}

// A folder may hold another version than the copy is of, such as after a restore of an older one:
// to open it would bring the copy to that version.
std::string HowToStart(Session& session, const std::string& original, const Project& copy) {
  const auto inspection =
      session.Run(absl::StrCat("looking at ", copy.path),
                  LongCall("POST", "/v1/inspect", Json{{"path", copy.path}, {"name", copy.name}}));
  const Json app = inspection.ok() ? ObjectAt(*inspection, "app") : Json();
  if (StringAt(app, "id") == copy.app_id && StringAt(app, "version") == copy.version) {
    return absl::StrCat("To start it: vibe open ", Escape(ShellQuoted(copy.path)), " --name ",
                        Escape(copy.name), "\n");
  }
  ApiRequest look;
  look.target = ProjectTarget(original);
  const auto first = session.Run(absl::StrCat("asking for ", original), look);
  std::string allowed;
  for (const std::string& capability : CapabilityNames()) {
    if (first.ok() && BoolAt(ObjectAt(*first, "decisions"), capability.c_str())) {
      absl::StrAppend(&allowed, " ", capability);
    }
  }
  return absl::StrCat(
      Escape(copy.path), " no longer holds version ", Escape(copy.version),
      "; to start the copy as it is: ",
      allowed.empty() ? "" : absl::StrCat(Command("grant", copy.name), allowed, " && "),
      Command("start", copy.name), "\n");
}

}  // namespace

absl::StatusOr<int> RunSave(Session& session, const Invocation& invocation) {
  VIBE_RETURN_IF_ERROR(CheckUtf8("the message", invocation.message));
  VIBE_ASSIGN_OR_RETURN(Json labels, ParseLabels(invocation.labels));
  Json body{{"message", invocation.message},
            {"labels", std::move(labels)},
            {"skipHooks", invocation.skip_hooks}};
  VIBE_ASSIGN_OR_RETURN(
      const Json snapshot,
      session.Run(absl::StrCat("saving ", invocation.name),
                  LongCall("POST", ProjectTarget(invocation.name, "/snapshots"), std::move(body))));
  session.Print(absl::StrCat("saved ", Escape(invocation.name), " as ",
                             Escape(StringAt(snapshot, "id")), "\n"),
                snapshot);
  for (const Json& warning : ArrayAt(snapshot, "warnings")) {
    if (warning.is_string()) {
      session.Note(absl::StrCat("warning: ", Escape(warning.get<std::string>())));
    }
  }
  session.NoteDisk(snapshot);
  return kExitOk;
}

absl::StatusOr<int> RunSnapshots(Session& session, const Invocation& invocation) {
  ApiRequest request;
  request.target = ProjectTarget(invocation.name, "/snapshots");
  VIBE_ASSIGN_OR_RETURN(
      const Json answer,
      session.Run(absl::StrCat("asking for the snapshots of ", invocation.name), request));
  session.Print(RenderSnapshots(ArrayAt(answer, "snapshots"), session.Table()), answer);
  return kExitOk;
}

absl::StatusOr<int> RunRestore(Session& session, const Invocation& invocation) {
  Json body{{"snapshot", invocation.snapshot},
            {"safetySnapshot", !invocation.no_safety},
            {"verify", invocation.verify},
            {"skipHooks", invocation.skip_hooks}};
  VIBE_ASSIGN_OR_RETURN(
      const Json answer,
      session.Run(absl::StrCat("restoring ", invocation.name),
                  LongCall("POST", ProjectTarget(invocation.name, "/restore"), std::move(body))));
  const Project project = ParseProject(ObjectAt(answer, "project"));
  const std::string safety = StringAt(answer, "safetySnapshot");
  std::string text =
      absl::StrCat(Escape(project.name), " is as it was in ", Escape(StringAt(answer, "restored")),
                   "\n", DescribeProject(project), "\n");
  if (const std::string replaced = StringAt(answer, "replacedVersion"); !replaced.empty()) {
    absl::StrAppend(&text, "It is version ", Escape(project.version), " again, in the place of ",
                    Escape(replaced), "\n");
  }
  if (project.status == "stopped") {
    absl::StrAppend(&text, "To start it: ", Command("start", project.name), "\n");
  }
  if (!safety.empty()) {
    absl::StrAppend(&text, "To go back: vibe restore ", Escape(project.name), " ", Escape(safety),
                    "\n");
  }
  session.Print(text, answer);
  for (const Json& warning : ArrayAt(answer, "warnings")) {
    if (warning.is_string()) {
      session.Note(absl::StrCat("warning: ", Escape(warning.get<std::string>())));
    }
  }
  return kExitOk;
}

absl::StatusOr<int> RunDuplicate(Session& session, const Invocation& invocation) {
  Json body{{"name", invocation.new_name}};
  if (!invocation.snapshot.empty()) {
    body["snapshot"] = invocation.snapshot;
  }
  VIBE_ASSIGN_OR_RETURN(
      const Json answer,
      session.Run(absl::StrCat("duplicating ", invocation.name),
                  LongCall("POST", ProjectTarget(invocation.name, "/duplicate"), std::move(body))));
  const Project project = ParseProject(answer);
  session.Print(absl::StrCat(Escape(project.name), " is a copy of ", Escape(invocation.name),
                             "; nothing is allowed to it yet\n",
                             session.json() ? "" : HowToStart(session, invocation.name, project)),
                answer);
  return kExitOk;
}

absl::StatusOr<int> RunSnapshotRm(Session& session, const Invocation& invocation) {
  VIBE_ASSIGN_OR_RETURN(
      const Json answer,
      session.Run(
          absl::StrCat("removing a snapshot of ", invocation.name),
          LongCall("DELETE",
                   ProjectTarget(invocation.name,
                                 absl::StrCat("/snapshots/", PercentEncode(invocation.snapshot))),
                   std::nullopt)));
  session.Print(absl::StrCat("snapshot ", Escape(StringAt(answer, "removed")), " is removed\n"),
                answer);
  return kExitOk;
}

}  // namespace vibe::cli
