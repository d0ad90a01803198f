// save, snapshots, restore, duplicate and snapshot rm.
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "cli/commands.h"
#include "cli/long_call.h"
#include "cli/project.h"
#include "cli/snapshot.h"
#include "cli/text.h"

namespace vibe::cli {
namespace {

absl::StatusOr<Json> ParseLabels(const std::vector<std::string>& words) {
  Json labels = Json::object();
  for (const std::string& word : words) {
    const size_t equals = word.find('=');
    if (equals == std::string::npos || equals == 0) {
      return WithAdvice(absl::InvalidArgumentError(
                            absl::StrCat("the label \"", Escape(word), "\" has no key and value")),
                        "write it as --label KEY=VALUE");
    }
    labels[word.substr(0, equals)] = word.substr(equals + 1);
  }
  return labels;
}

}  // namespace

absl::StatusOr<int> RunSave(Session& session, const Invocation& invocation) {
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
  if (!safety.empty()) {
    absl::StrAppend(&text, "To go back: vibe restore ", Escape(project.name), " ", Escape(safety),
                    "\n");
  }
  session.Print(text, answer);
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
                             "; nothing is allowed to it yet\nTo start it: vibe open ",
                             Escape(project.path), " --name ", Escape(project.name), "\n"),
                answer);
  return kExitOk;
}

absl::StatusOr<int> RunSnapshotRm(Session& session, const Invocation& invocation) {
  VIBE_RETURN_IF_ERROR(
      session
          .Run(absl::StrCat("removing a snapshot of ", invocation.name),
               LongCall(
                   "DELETE",
                   ProjectTarget(invocation.name,
                                 absl::StrCat("/snapshots/", PercentEncode(invocation.snapshot))),
                   std::nullopt))
          .status());
  session.Print(absl::StrCat("snapshot ", Escape(invocation.snapshot), " is removed\n"),
                Json{{"removed", invocation.snapshot}});
  return kExitOk;
}

}  // namespace vibe::cli
