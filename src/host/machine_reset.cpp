#include "host/machine_reset.h"

#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "spdlog/spdlog.h"
#include "vm/erase.h"

namespace vibe::host {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr uint64_t kMaxRecordBytes = 64 << 10;
constexpr absl::Duration kIdlePatience = absl::Seconds(30);
// A supervisor that was killed is back within a second.
constexpr absl::Duration kAnswerPatience = absl::Seconds(3);

// Paths below Vibe's home, so that a home that was moved meanwhile is no other one.
json RecordOf(const fs::path& home, const std::vector<fs::path>& data) {
  json paths = json::array();
  for (const fs::path& path : data) {
    paths.push_back(path.lexically_relative(home).string());
  }
  return json{{"data", paths}};
}

absl::StatusOr<std::vector<fs::path>> PathsIn(const fs::path& home, const std::string& text) {
  const json record = json::parse(text, nullptr, /*allow_exceptions=*/false);
  const absl::Status bad = absl::DataLossError("it is no record of a reset");
  if (!record.is_object() || !record.contains("data") || !record["data"].is_array()) {
    return bad;
  }
  std::vector<fs::path> paths;
  for (const json& entry : record["data"]) {
    if (!entry.is_string()) {
      return bad;
    }
    // Nothing outside of machine/NAME/ was ever written into it.
    const fs::path path = fs::path(entry.get<std::string>()).lexically_normal();
    const auto parts = std::distance(path.begin(), path.end());
    if (path.is_absolute() || parts < 3 || *path.begin() != "machine") {
      return bad;
    }
    paths.push_back(home / path);
  }
  return paths;
}

absl::Status AwaitAnswer(SupervisorClient& supervisor) {
  const absl::Time give_up = absl::Now() + kAnswerPatience;
  absl::Status health = supervisor.Health().status();
  while (!health.ok() && absl::Now() < give_up) {
    absl::SleepFor(absl::Milliseconds(100));
    health = supervisor.Health().status();
  }
  return health;
}

}  // namespace

absl::Status RequestShutdown(SupervisorClient& supervisor) {
  VIBE_RETURN_IF_ERROR(AwaitAnswer(supervisor));
  return supervisor.Shutdown();
}

absl::Status RequestSync(SupervisorClient& supervisor) {
  VIBE_RETURN_IF_ERROR(AwaitAnswer(supervisor));
  return supervisor.SyncDisk();
}

json MachineReset::Preview() const {
  json names = json::array();
  for (const ProjectRecord& record : world_.library.All()) {
    names.push_back(record.name);
  }
  return json{{"projects", names},
              {"keptProjects", world_.library.Kept().size()},
              {"bytes", vm::AllocatedBytes(world_.machine.DataPaths())}};
}

absl::Status MachineReset::Erase(const std::vector<fs::path>& data) {
  VIBE_RETURN_IF_ERROR(vm::SetDataAside(data));
  VIBE_RETURN_IF_ERROR(world_.library.Clear());
  VIBE_RETURN_IF_ERROR(RemoveAll(Record()));
  return SyncDirectory(Record().parent_path());
}

absl::StatusOr<json> MachineReset::Run(const ProgressSink& progress) {
  const auto tell = [&progress](const char* phase) { progress({phase, "", "machine", 0, 0, ""}); };
  VIBE_ASSIGN_OR_RETURN(const ProjectLocks::Closed closed, world_.projects.Close("machine reset"));
  tell("stop");
  const auto request = [this] { return RequestShutdown(world_.supervisor); };
  // An operation that waited for a boot may have booted the machine once more before it saw that it
  // is cancelled; the second Reset stops it again. Not Stop: that would resume a suspended machine.
  VIBE_RETURN_IF_ERROR(
      world_.machine.Reset(request, [](const std::vector<fs::path>&) { return absl::OkStatus(); }));
  if (!closed.AwaitIdle(kIdlePatience)) {
    return WithAdvice(Error(absl::StatusCode::kAborted, Reason::kConflict,
                            "something still works on a project, and does not end"),
                      "try again");
  }
  world_.ports.CloseAll();
  const json gone = Preview();
  std::vector<fs::path> erased;
  const absl::Status reset =
      world_.machine.Reset(request, [&](const std::vector<fs::path>& data) -> absl::Status {
        tell("erase");
        erased = data;
        VIBE_RETURN_IF_ERROR(MakeDirectories(Record().parent_path(), 0700));
        VIBE_RETURN_IF_ERROR(
            ReplaceFile(Record(), RecordOf(world_.home, data).dump() + "\n", 0600));
        return WithAdvice(Annotate(Erase(data), "erase the machine's data"),
                          "what is left of it is erased when vibed starts next");
      });
  VIBE_RETURN_IF_ERROR(reset);
  spdlog::info("the machine was reset: {}", gone.dump());
  VIBE_RETURN_IF_ERROR(
      WithAdvice(Annotate(vm::DeleteSetAside(erased),
                          "the machine was reset, but its old data is not deleted"),
                 "it is deleted when vibed starts next"));
  return gone;
}

absl::Status MachineReset::Finish() {
  VIBE_RETURN_IF_ERROR(RemoveUnfinished(Record().parent_path()));
  const absl::StatusOr<std::string> text = ReadFile(Record(), kMaxRecordBytes);
  if (text.ok()) {
    const absl::StatusOr<std::vector<fs::path>> data = PathsIn(world_.home, *text);
    VIBE_RETURN_IF_ERROR(Annotate(data.status(), Record().string()));
    VIBE_RETURN_IF_ERROR(Annotate(Erase(*data), "finish the machine's reset"));
    VIBE_RETURN_IF_ERROR(vm::DeleteSetAside(*data));
    spdlog::info("finished the machine's reset");
  } else if (!absl::IsNotFound(text.status())) {
    return text.status();
  }
  return vm::DeleteSetAside(world_.machine.DataPaths());
}

}  // namespace vibe::host
