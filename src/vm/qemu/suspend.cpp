// The part of QemuMachine that saves the guest and lets it go on.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "base/unix_socket.h"
#include "rpc/ports.h"
#include "vm/qemu/guest_memory.h"
#include "vm/qemu/migration.h"
#include "vm/qemu/qemu_machine.h"
#include "vm/qemu/save.h"
#include "vm/qemu/stream.h"

namespace vibe::vm::qemu {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

constexpr absl::Duration kPoll = absl::Milliseconds(2);
constexpr absl::Duration kDriverPoll = absl::Milliseconds(200);
constexpr absl::Duration kStuckAfter = absl::Seconds(1);

}  // namespace

bool QemuMachine::can_suspend() const {
  // On "virt" the slot of the vsock device is one whose button Linux heeds after five seconds.
  return HostArchitecture() == Architecture::kX86_64 &&
         layout_.called().native().size() < sizeof(sockaddr_un::sun_path);
}

bool QemuMachine::suspended() const {
  std::error_code error;
  return fs::exists(layout_.save(), error) && !Process().ok();
}

absl::Status QemuMachine::SaveGuest(const Boot& boot) {
  const absl::Time deadline = absl::Now() + options_.save_timeout;
  const UniqueFd state(
      ::open(layout_.state().c_str(), O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!state.valid()) {
    return ErrnoError(errno, absl::StrCat("make ", layout_.state().string()));
  }
  absl::MutexLock lock(&control_);
  VIBE_ASSIGN_OR_RETURN(Qmp qmp, Qmp::Connect(layout_.control(), deadline));
  if (boot.transport == Transport::kDevice) {
    VIBE_RETURN_IF_ERROR(Annotate(UnplugVsock(qmp, deadline), "unplug the vsock device"));
  }
  const absl::Status status = SaveState(qmp, state, deadline);
  if (!status.ok()) {
    // So that its power button still does something.
    qmp.Execute("migrate_cancel", json::object(), deadline).IgnoreError();
    qmp.Execute("cont", json::object(), deadline).IgnoreError();
  }
  return status;
}

absl::Status QemuMachine::Suspend() {
  absl::MutexLock lock(&power_);
  if (state() != PowerState::kOn) {
    return absl::FailedPreconditionError("the machine is not running");
  }
  VIBE_ASSIGN_OR_RETURN(const Boot boot, CurrentBoot());
  VIBE_RETURN_IF_ERROR(DiscardSave(layout_));
  // Soon it has no vsock device: should this process end, the next one must know.
  VIBE_RETURN_IF_ERROR(ReplaceFile(layout_.saving(), "", 0600));
  VIBE_RETURN_IF_ERROR(Annotate(SaveGuest(boot), "save the machine"));
  if (!boot.resumed) {  // one that goes on from a save has its memory in the file
    VIBE_ASSIGN_OR_RETURN(const UniqueFd memory, OpenGuestMemory(layout_));
    VIBE_RETURN_IF_ERROR(
        Annotate(CopyGuestMemory(memory, layout_.memory(), absl::Now() + options_.save_timeout),
                 "save the machine"));
  }
  VIBE_RETURN_IF_ERROR(EndProcesses());
  // Nobody has the files any more: from now on they are what was saved.
  if (absl::Status status = RecordSave(layout_, boot); !status.ok()) {
    KillLocked().IgnoreError();
    return Annotate(status, "save the machine");
  }
  for (const fs::path& path : {layout_.record(), layout_.run()}) {
    VIBE_RETURN_IF_ERROR(RemoveAll(path));
  }
  return absl::OkStatus();
}

absl::Status QemuMachine::LoadGuest(const OpenSave& save, absl::Time deadline) {
  absl::MutexLock lock(&control_);
  absl::StatusOr<Qmp> qmp = Qmp::Connect(layout_.control(), deadline);
  while (!qmp.ok()) {
    if (!Process().ok() || absl::Now() >= deadline) {
      return qmp.status();
    }
    absl::SleepFor(kPoll);
    qmp = Qmp::Connect(layout_.control(), deadline);
  }
  VIBE_RETURN_IF_ERROR(LoadState(*qmp, save.state, deadline));
  if (save.boot.transport == Transport::kDevice) {
    VIBE_RETURN_IF_ERROR(PlugVsock(*qmp, deadline));
  }
  return qmp->Execute("cont", json::object(), deadline).status();
}

// A connection that comes while the guest's driver starts breaks vhost-device-vsock 0.3 for good,
// so the first one is the guest's.
//
// That one can get stuck: before 8.2 qemu lets the guest go on before the device has enabled the
// queue, the device drops the signal of a queue that is not enabled, and the guest, which has yet
// to hear that its first packet was taken, sends no other. A call from the host makes the device
// look at the queue. The driver is ready by then: qemu says that it runs, and the device had
// a second to do what it was told before.
absl::Status QemuMachine::AwaitDriver(const UniqueFd& caller, const Boot& boot,
                                      absl::Time deadline) {
  absl::Time call_at = absl::InfiniteFuture();
  while (true) {
    const absl::Status called =
        AwaitReadable(caller, std::min(deadline, absl::Now() + kDriverPoll));
    if (!absl::IsDeadlineExceeded(called) || absl::Now() >= deadline) {
      return called;
    }
    if (!Process().ok()) {
      return absl::UnavailableError("the machine went off");
    }
    if (call_at == absl::InfiniteFuture()) {
      if (DriverRuns(deadline)) {
        call_at = absl::Now() + kStuckAfter;
      }
    } else if (absl::Now() >= call_at) {
      if (dialer_
              .Dial(layout_, boot, rpc::kSupervisorPort,
                    std::min(deadline, absl::Now() + options_.dial_timeout))
              .ok()) {
        return absl::OkStatus();
      }
      call_at = absl::Now() + kStuckAfter;
    }
  }
}

bool QemuMachine::DriverRuns(absl::Time deadline) const {
  absl::MutexLock lock(&control_);
  absl::StatusOr<Qmp> qmp = Qmp::Connect(layout_.control(), deadline);
  return qmp.ok() && VsockRuns(*qmp, deadline);
}

absl::Status QemuMachine::ResumeGuest(MachineSpec spec, const OpenSave& save) {
  const absl::Time deadline = absl::Now() + options_.resume_timeout;
  spec.resume = true;
  const uint16_t forward_port = spec.boot.forward_port;
  spec.boot = save.boot;
  spec.boot.forward_port = forward_port;
  spec.boot.resumed = true;
  UniqueFd caller;
  if (spec.boot.transport == Transport::kDevice) {
    VIBE_ASSIGN_OR_RETURN(caller, ListenUnix(layout_.called()));
  }
  VIBE_RETURN_IF_ERROR(StartKeeper(spec, ""));
  VIBE_RETURN_IF_ERROR(LoadGuest(save, deadline));
  if (caller.valid()) {
    VIBE_RETURN_IF_ERROR(
        Annotate(AwaitDriver(caller, spec.boot, deadline), "wait for the guest's vsock driver"));
    VIBE_RETURN_IF_ERROR(RemoveAll(layout_.called()));
  }
  return ReplaceFile(layout_.ready(), "", 0600);
}

}  // namespace vibe::vm::qemu
