#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/daemon.h"
#include "cli/text.h"

namespace vibe::cli {

absl::StatusOr<int> RunVersion(Session& session, const Invocation&) {
  Json document;
  document["version"] = VIBE_VERSION;
  document["vibed"] = nullptr;
  std::string text = absl::StrCat("vibe ", VIBE_VERSION, "\n");
  if (const absl::StatusOr<DaemonVersion> daemon = FindDaemon(session.home()); daemon.ok()) {
    document["vibed"] = {
        {"version", daemon->version}, {"pid", daemon->pid}, {"home", daemon->home}};
    absl::StrAppend(&text, "vibed ", Escape(daemon->version), " (process ", daemon->pid, ")\n");
  } else {
    absl::StrAppend(&text, "vibed does not run\n");
  }
  session.Print(text, document);
  return kExitOk;
}

}  // namespace vibe::cli
