#include "cli/machine.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cli/text.h"

namespace vibe::cli {
namespace {

constexpr int kLabelWidth = 12;
constexpr size_t kMaxNames = 10;

std::string Fact(absl::string_view label, const std::string& value) {
  return value.empty() ? "" : absl::StrCat("  ", Pad(label, kLabelWidth), value, "\n");
}

Color ColorOfState(const std::string& state) {
  if (state == "ready" || state == "busy") {
    return Color::kGreen;
  }
  if (state == "error") {
    return Color::kRed;
  }
  return state == "stopped" ? Color::kDim : Color::kYellow;
}

std::string Recoveries(const Json& machine) {
  const uint64_t recoveries = UnsignedAt(machine, "recoveries");
  return recoveries == 0
             ? ""
             : absl::StrCat(recoveries, recoveries == 1 ? ", because " : ", last because ",
                            Escape(StringAt(machine, "recoveryCause")));
}

std::string Disk(const Json& disk) {
  const uint64_t total = UnsignedAt(disk, "totalBytes");
  return total == 0 ? ""
                    : absl::StrCat(FormatBytes(UnsignedAt(disk, "freeBytes")), " of ",
                                   FormatBytes(total), " free");
}

}  // namespace

std::string RenderMachine(const Json& machine, bool color) {
  const std::string state = StringAt(machine, "state");
  std::string out = absl::StrCat(
      "The machine is ",
      Paint(state.empty() ? "in an unknown state" : Escape(state), ColorOfState(state), color),
      BoolAt(machine, "suspended") ? ": suspended, the next start goes on where it was" : "", "\n");
  std::string kind = Escape(StringAt(machine, "backend"));
  if (const std::string reason = StringAt(machine, "reason"); !reason.empty()) {
    absl::StrAppend(&kind, kind.empty() ? "" : ": ", Escape(reason));
  }
  absl::StrAppend(&out, Fact("kind", kind), Fact("since", Escape(StringAt(machine, "readySince"))),
                  Fact("resumed", BoolAt(machine, "resumed") ? "where it was suspended" : ""),
                  Fact("not saved", Escape(StringAt(machine, "saveError"))),
                  Fact("recoveries", Recoveries(machine)),
                  Fact("supervisor", Escape(StringAt(machine, "supervisorVersion"))),
                  Fact("containerd", Escape(StringAt(machine, "containerdVersion"))),
                  Fact("disk", Disk(ObjectAt(machine, "disk"))));
  if (const std::string error = StringAt(machine, "error"); !error.empty()) {
    absl::StrAppend(&out, Fact("error", Paint(Escape(error), Color::kRed, color)));
  }
  return out;
}

std::string DescribeLoss(const Json& reset) {
  std::vector<std::string> names;
  const Json& projects = ArrayAt(reset, "projects");
  for (const Json& project : projects) {
    if (project.is_string() && names.size() < kMaxNames) {
      names.push_back(Escape(project.get<std::string>()));
    }
  }
  const size_t more = projects.size() - names.size();
  std::string out =
      projects.empty() ? "no project"
      : projects.size() == 1
          ? absl::StrCat("the project ", absl::StrJoin(names, ", "), " with its data")
          : absl::StrCat("all ", projects.size(), " projects (", absl::StrJoin(names, ", "),
                         more > 0 ? absl::StrCat(" and ", more, " more") : "", ") with their data");
  if (const uint64_t kept = UnsignedAt(reset, "keptProjects"); kept > 0) {
    absl::StrAppend(&out, ", the kept data of ", kept,
                    kept == 1 ? " removed one" : " removed ones");
  }
  return absl::StrCat(out, ", all images, and frees ", FormatBytes(UnsignedAt(reset, "bytes")));
}

std::string RenderMachineLine(const Json& line, bool escape) {
  const std::string time = StringAt(line, "time");
  const std::string text = absl::StrCat(time, time.empty() ? "" : " ", StringAt(line, "text"));
  return absl::StrCat(escape ? Escape(text) : text, "\n");
}

std::string RenderChecks(const Json& checks, bool color) {
  int name_width = 0;
  for (const Json& check : checks) {
    name_width = std::max(name_width, DisplayWidth(Escape(StringAt(check, "name"))));
  }
  std::string out;
  for (const Json& check : checks) {
    const std::string status = StringAt(check, "status");
    const Color shade = status == "ok"        ? Color::kGreen
                        : status == "warning" ? Color::kYellow
                                              : Color::kRed;
    const std::string mark = Paint(Pad(Escape(status.empty() ? "error" : status), 7), shade, color);
    absl::StrAppend(&out, mark, "  ", Pad(Escape(StringAt(check, "name")), name_width), "  ",
                    Escape(StringAt(check, "message")), "\n");
    if (const std::string advice = StringAt(check, "advice"); !advice.empty() && status != "ok") {
      absl::StrAppend(&out, std::string(9 + name_width + 2, ' '), Escape(advice), "\n");
    }
  }
  return out;
}

bool HasError(const Json& checks) {
  return std::any_of(checks.begin(), checks.end(), [](const Json& check) {
    const std::string status = StringAt(check, "status");
    return status != "ok" && status != "warning";
  });
}

}  // namespace vibe::cli
