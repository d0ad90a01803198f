#include "vm/qemu/migration.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "vm/qemu/command_line.h"

namespace vibe::vm::qemu {
namespace {

using nlohmann::json;

constexpr absl::Duration kPoll = absl::Milliseconds(1);
constexpr char kFile[] = "state";       // the descriptor's name in qemu
constexpr char kStream[] = "fd:state";  // its processes must not start others: no "exec:"
constexpr int64_t kNoBandwidthLimit = int64_t{1} << 40;

std::string TextAt(const json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() && found->is_string()
             ? found->get<std::string>()
             : "";
}

// The memory is a shared file: it is not part of what is saved.
absl::Status LeaveMemoryOut(Qmp& qmp, absl::Time deadline) {
  return qmp
      .Execute(
          "migrate-set-capabilities",
          {{"capabilities", json::array({{{"capability", "x-ignore-shared"}, {"state", true}}})}},
          deadline)
      .status();
}

absl::Status Late(absl::string_view what) {
  return absl::DeadlineExceededError(absl::StrCat("qemu does not end to ", what));
}

}  // namespace

absl::Status UnplugVsock(Qmp& qmp, absl::Time deadline) {
  VIBE_RETURN_IF_ERROR(qmp.Execute("device_del", {{"id", kVsockDevice}}, deadline).status());
  while (true) {
    // Its parts go too, and have no name.
    VIBE_ASSIGN_OR_RETURN(const json data, qmp.AwaitEvent("DEVICE_DELETED", deadline));
    if (TextAt(data, "device") == kVsockDevice) {
      return absl::OkStatus();
    }
  }
}

absl::Status PlugVsock(Qmp& qmp, absl::Time deadline) {
  return qmp
      .Execute("device_add",
               {{"driver", kVsockDriver},
                {"id", kVsockDevice},
                {"chardev", "vsock"},
                {"bus", kVsockSlot}},
               deadline)
      .status();
}

bool VsockRuns(Qmp& qmp, absl::Time deadline) {
  const absl::StatusOr<json> device = qmp.Execute(
      "x-query-virtio-status",
      {{"path", absl::StrCat("/machine/peripheral/", kVsockDevice, "/virtio-backend")}}, deadline);
  return device.ok() && device->is_object() && device->value("vhost-started", json()) == json(true);
}

absl::Status SaveState(Qmp& qmp, const UniqueFd& file, absl::Time deadline) {
  VIBE_RETURN_IF_ERROR(qmp.Execute("stop", json::object(), deadline).status());
  VIBE_RETURN_IF_ERROR(LeaveMemoryOut(qmp, deadline));
  VIBE_RETURN_IF_ERROR(
      qmp.Execute("migrate-set-parameters", {{"max-bandwidth", kNoBandwidthLimit}}, deadline)
          .status());
  VIBE_RETURN_IF_ERROR(qmp.GiveDescriptor(kFile, file, deadline));
  VIBE_RETURN_IF_ERROR(qmp.Execute("migrate", {{"uri", kStream}}, deadline).status());
  while (absl::Now() < deadline) {
    VIBE_ASSIGN_OR_RETURN(const json answer,
                          qmp.Execute("query-migrate", json::object(), deadline));
    const std::string status = TextAt(answer, "status");
    if (status == "completed") {
      return absl::OkStatus();
    }
    if (status == "failed" || status == "cancelled") {
      return absl::FailedPreconditionError(
          absl::StrCat("qemu does not save the guest: ", TextAt(answer, "error-desc")));
    }
    absl::SleepFor(kPoll);
  }
  return Late("save the guest");
}

absl::Status LoadState(Qmp& qmp, const UniqueFd& file, absl::Time deadline) {
  VIBE_RETURN_IF_ERROR(LeaveMemoryOut(qmp, deadline));
  VIBE_RETURN_IF_ERROR(qmp.GiveDescriptor(kFile, file, deadline));
  VIBE_RETURN_IF_ERROR(qmp.Execute("migrate-incoming", {{"uri", kStream}}, deadline).status());
  while (absl::Now() < deadline) {
    VIBE_ASSIGN_OR_RETURN(const json answer, qmp.Execute("query-status", json::object(), deadline));
    const std::string status = TextAt(answer, "status");
    if (status == "paused" || status == "prelaunch") {
      return absl::OkStatus();
    }
    if (status != "inmigrate") {
      return absl::FailedPreconditionError(
          absl::StrCat("the saved guest is \"", status, "\" in qemu"));
    }
    absl::SleepFor(kPoll);
  }
  return Late("read the saved guest");
}

}  // namespace vibe::vm::qemu
