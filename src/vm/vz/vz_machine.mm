#include "vm/vz/vz_machine.h"

#import <Virtualization/Virtualization.h>
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "rpc/ports.h"
#include "vm/data_disk.h"
#include "vm/vz/completion.h"
#import "vm/vz/configuration.h"
#include "vm/vz/console_log.h"
#import "vm/vz/delegate.h"
#import "vm/vz/error.h"
#include "vm/vz/power.h"
#include "vm/vz/resources.h"

namespace vibe::vm::vz {
namespace {

constexpr int64_t kConsoleBytes = 1 << 20;
constexpr size_t kLogLines = 50;
constexpr absl::Duration kKillPause = absl::Milliseconds(50);
// The only disk: the root is in the initrd, and macOS 12 cannot give a disk a serial number.
constexpr char kDataDisk[] = "vda";

// One boot of the machine, until nobody uses it any more.
struct Session {
  dispatch_queue_t queue = nil;
  VZVirtualMachine* machine = nil;  // used on the queue only; set once, before anybody else sees it
  VibeMachineDelegate* delegate = nil;
  std::shared_ptr<Power> power = std::make_shared<Power>();
  std::shared_ptr<ConsoleLog> console;

  Session() = default;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session() {
    // Its end, too, is for its queue. The block has the last reference, and nothing else of ours.
    __block VZVirtualMachine* last = std::exchange(machine, nil);
    if (last != nil) {
      dispatch_async(queue, ^{
        last = nil;
      });
    }
  }
};

// Runs `call` on the session's queue and waits for what it, or the handler that it gives to the
// framework, finishes with. Nothing that the block holds leads back to the one who waits.
template <typename Result>
Result OnQueue(const Session& session, absl::Duration timeout, absl::string_view what,
               void (^call)(VZVirtualMachine*, std::shared_ptr<Completion<Result>>)) {
  auto completion = std::make_shared<Completion<Result>>();
  VZVirtualMachine* machine = session.machine;
  dispatch_async(session.queue, ^{
    call(machine, completion);
  });
  return completion->Await(timeout, what);
}

absl::StatusOr<UniqueFd> Duplicate(VZVirtioSocketConnection* connection) {
  UniqueFd fd(::fcntl(connection.fileDescriptor, F_DUPFD_CLOEXEC, 0));
  const int error = errno;
  // The connection closes its own descriptor; ours keeps the stream open.
  [connection close];
  if (!fd.valid()) {
    return ErrnoError(error, "keep the connection to the machine");
  }
  return fd;
}

}  // namespace

struct VzMachine::Impl {
  explicit Impl(Options given) : options(std::move(given)) {}

  std::shared_ptr<Session> Current() const ABSL_LOCKS_EXCLUDED(session_mutex) {
    absl::MutexLock lock(&session_mutex);
    return session;
  }
  void Keep(std::shared_ptr<Session> next) ABSL_LOCKS_EXCLUDED(session_mutex) {
    absl::MutexLock lock(&session_mutex);
    std::swap(session, next);
  }
  std::filesystem::path ConsolePath() const { return options.directory / "logs" / "console.log"; }
  std::filesystem::path DiskPath() const { return options.directory / "data.img"; }

  absl::StatusOr<std::shared_ptr<Session>> Prepare();
  absl::Status Start() ABSL_LOCKS_EXCLUDED(operation);
  absl::Status Kill() ABSL_LOCKS_EXCLUDED(operation);
  absl::Status KillSession(const Session& victim);
  absl::Status Change(PowerState to) ABSL_LOCKS_EXCLUDED(operation);
  absl::Status ChangeSession(const Session& changed, PowerState to);

  const Options options;
  absl::Mutex operation;  // held while the machine is started, ended, paused or resumed
  mutable absl::Mutex session_mutex ABSL_ACQUIRED_AFTER(operation);
  std::shared_ptr<Session> session ABSL_GUARDED_BY(session_mutex);  // null: off
};

absl::StatusOr<std::shared_ptr<Session>> VzMachine::Impl::Prepare() {
  VIBE_RETURN_IF_ERROR(CheckVirtualization());
  VIBE_RETURN_IF_ERROR(MakeDirectories(ConsolePath().parent_path(), 0700));
  Hardware hardware;
  hardware.image = options.image;
  hardware.options = options.guest;
  hardware.command_line =
      KernelCommandLine({.console = "hvc0",
                         .uplink = "dhcp",
                         .data_disk = kDataDisk,
                         .listen = {absl::StrCat("vsock:", rpc::kSupervisorPort)},
                         .forward = {absl::StrCat("vsock:", rpc::kForwardPort)}});
  hardware.data_disk = DiskPath();
  VIBE_RETURN_IF_ERROR(PrepareDataDisk(hardware.data_disk, hardware.options.disk_mib << 20));
  hardware.mac_address = StableMacAddress(options.directory.string());

  auto made = std::make_shared<Session>();
  VIBE_ASSIGN_OR_RETURN(made->console, ConsoleLog::Open(ConsolePath(), kConsoleBytes));
  hardware.console = made->console->TakeWriter();
  VIBE_ASSIGN_OR_RETURN(VZVirtualMachineConfiguration * configuration,
                        MakeConfiguration(std::move(hardware)));
  made->queue = dispatch_queue_create(
      "app.vibe.machine", dispatch_queue_attr_make_with_autorelease_frequency(
                              DISPATCH_QUEUE_SERIAL, DISPATCH_AUTORELEASE_FREQUENCY_WORK_ITEM));
  made->delegate = [[VibeMachineDelegate alloc] initWithPower:made->power
                                                      console:made->console
                                                        queue:made->queue];
  Session* const raw = made.get();
  // Waits without a deadline: nothing is on the queue yet.
  dispatch_sync(raw->queue, ^{
    raw->machine = [[VZVirtualMachine alloc] initWithConfiguration:configuration queue:raw->queue];
    raw->machine.delegate = raw->delegate;
  });
  return made;
}

absl::Status VzMachine::Impl::Start() {
  absl::MutexLock lock(&operation);
  if (const std::shared_ptr<Session> running = Current(); running != nullptr) {
    if (running->power->state() == PowerState::kOn) {
      return absl::OkStatus();
    }
    // Off, paused, or an earlier start that nobody knows the end of: one machine has the data disk.
    if (running->power->state() == PowerState::kPaused) {
      return ChangeSession(*running, PowerState::kOn);
    }
    VIBE_RETURN_IF_ERROR(KillSession(*running));
    Keep(nullptr);
  }
  @autoreleasepool {
    VIBE_ASSIGN_OR_RETURN(const std::shared_ptr<Session> fresh, Prepare());
    Keep(fresh);
    const std::shared_ptr<Power> power = fresh->power;
    absl::Status status = OnQueue<absl::Status>(
        *fresh, options.start_timeout, "start the virtual machine",
        ^(VZVirtualMachine* machine, std::shared_ptr<Completion<absl::Status>> done) {
          [machine startWithCompletionHandler:^(NSError* error) {
            power->Set(error == nil ? PowerState::kOn : PowerState::kOff);
            done->Finish(StatusFrom(error, "start the virtual machine"));
          }];
        });
    // A session that is not surely over stays, so that Kill can end it.
    if (!status.ok() && KillSession(*fresh).ok()) {
      Keep(nullptr);
    }
    return status;
  }
}

absl::Status VzMachine::Impl::KillSession(const Session& victim) {
  const std::shared_ptr<Power> power = victim.power;
  const absl::Time deadline = absl::Now() + options.kill_timeout;
  while (true) {
    const absl::Status status = OnQueue<absl::Status>(
        victim, std::max(deadline - absl::Now(), absl::ZeroDuration()), "end the virtual machine",
        ^(VZVirtualMachine* machine, std::shared_ptr<Completion<absl::Status>> done) {
          if (machine.state == VZVirtualMachineStateStopped ||
              machine.state == VZVirtualMachineStateError) {
            power->Set(PowerState::kOff);
            done->Finish(absl::OkStatus());
          } else if (!machine.canStop) {
            done->Finish(absl::UnavailableError(
                "end the virtual machine: it is in the middle of a change of state"));
          } else {
            [machine stopWithCompletionHandler:^(NSError* error) {
              if (error == nil) {
                power->Set(PowerState::kOff);
              }
              done->Finish(StatusFrom(error, "end the virtual machine"));
            }];
          }
        });
    // It may be starting or pausing now, or just have gone off by itself.
    if (status.ok() || absl::Now() + kKillPause >= deadline) {
      return WithAdvice(status, "end Vibe: the virtual machine ends with it");
    }
    absl::SleepFor(kKillPause);
  }
}

absl::Status VzMachine::Impl::Kill() {
  absl::MutexLock lock(&operation);
  if (const std::shared_ptr<Session> running = Current(); running != nullptr) {
    VIBE_RETURN_IF_ERROR(KillSession(*running));
    Keep(nullptr);
  }
  return absl::OkStatus();
}

absl::Status VzMachine::Impl::ChangeSession(const Session& changed, PowerState to) {
  const std::shared_ptr<Power> power = changed.power;
  const bool pause = to == PowerState::kPaused;
  const char* const what = pause ? "pause the virtual machine" : "resume the virtual machine";
  return OnQueue<absl::Status>(
      changed, options.pause_timeout, what,
      ^(VZVirtualMachine* machine, std::shared_ptr<Completion<absl::Status>> done) {
        const auto finish = ^(NSError* error) {
          if (error == nil) {
            power->Set(to);
          }
          done->Finish(StatusFrom(error, what));
        };
        if (pause) {
          [machine pauseWithCompletionHandler:finish];
        } else {
          [machine resumeWithCompletionHandler:finish];
        }
      });
}

absl::Status VzMachine::Impl::Change(PowerState to) {
  absl::MutexLock lock(&operation);
  const std::shared_ptr<Session> running = Current();
  const PowerState now = running != nullptr ? running->power->state() : PowerState::kOff;
  if (now == PowerState::kOff) {
    return absl::FailedPreconditionError("the machine is not running");
  }
  return now == to ? absl::OkStatus() : ChangeSession(*running, to);
}

VzMachine::VzMachine(Options options) : impl_(std::make_unique<Impl>(std::move(options))) {}

VzMachine::~VzMachine() {
  const std::shared_ptr<Session> running = impl_->Current();
  if (running == nullptr) {
    return;
  }
  // The machine ends with us; let it sync its disk before.
  if (running->power->state() == PowerState::kOn && RequestShutdown().ok()) {
    running->power->AwaitOff(impl_->options.farewell_timeout);
  }
  impl_->Kill().IgnoreError();
}

absl::Status VzMachine::Start() {
  return impl_->Start();
}

absl::StatusOr<UniqueFd> VzMachine::Dial(uint32_t port) {
  const std::shared_ptr<Session> running = impl_->Current();
  if (running == nullptr || running->power->state() != PowerState::kOn) {
    return absl::UnavailableError("the machine is not running");
  }
  const std::string what = absl::StrCat("connect to the machine's port ", port);
  using Stream = absl::StatusOr<UniqueFd>;
  Stream stream = OnQueue<Stream>(
      *running, impl_->options.dial_timeout, what,
      ^(VZVirtualMachine* machine, std::shared_ptr<Completion<Stream>> done) {
        VZSocketDevice* device = machine.socketDevices.firstObject;
        if (![device isKindOfClass:[VZVirtioSocketDevice class]]) {
          done->Finish(absl::InternalError("the machine has no socket device"));
          return;
        }
        [static_cast<VZVirtioSocketDevice*>(device)
                connectToPort:port
            completionHandler:^(VZVirtioSocketConnection* connection, NSError* error) {
              if (connection != nil) {
                done->Finish(Duplicate(connection));
              } else {
                done->Finish(error != nil ? StatusFrom(error, "the machine refused it")
                                          : absl::InternalError("no connection and no error"));
              }
            }];
      });
  if (stream.ok()) {
    return stream;
  }
  // A guest that is not up yet refuses, or says nothing at all: both mean that nobody listens.
  return absl::UnavailableError(absl::StrCat(what, ": ", stream.status().message()));
}

absl::Status VzMachine::RequestShutdown() {
  const std::shared_ptr<Session> running = impl_->Current();
  if (running == nullptr || running->power->state() == PowerState::kOff) {
    return absl::OkStatus();
  }
  return OnQueue<absl::Status>(
      *running, impl_->options.dial_timeout, "ask the machine to power off",
      ^(VZVirtualMachine* machine, std::shared_ptr<Completion<absl::Status>> done) {
        NSError* error = nil;
        if (!machine.canRequestStop) {
          done->Finish(absl::FailedPreconditionError("the machine cannot be asked to power off"));
        } else if ([machine requestStopWithError:&error]) {
          done->Finish(absl::OkStatus());
        } else {
          const absl::Status status = StatusFrom(error, "ask the machine to power off");
          done->Finish(status.ok() ? absl::InternalError("the machine does not power off")
                                   : status);
        }
      });
}

absl::Status VzMachine::Kill() {
  return impl_->Kill();
}

absl::Status VzMachine::Pause() {
  return impl_->Change(PowerState::kPaused);
}

absl::Status VzMachine::Resume() {
  return impl_->Change(PowerState::kOn);
}

PowerState VzMachine::state() const {
  const std::shared_ptr<Session> running = impl_->Current();
  return running != nullptr ? running->power->state() : PowerState::kOff;
}

std::vector<std::string> VzMachine::LastLog() const {
  return LastConsoleLines(impl_->ConsolePath(), kLogLines);
}

std::filesystem::path VzMachine::ConsoleLog() const {
  return impl_->ConsolePath();
}

std::vector<std::filesystem::path> VzMachine::DataPaths() const {
  return {impl_->DiskPath()};
}

absl::Status CheckVirtualization() {
  if (VZVirtualMachine.supported) {
    return absl::OkStatus();
  }
  return WithAdvice(absl::UnavailableError(
                        "this Mac, or the virtual machine it is itself, has no virtualization"),
                    "Vibe needs macOS 12 or later on a Mac with Apple silicon, or with an Intel "
                    "processor of 2015 "
                    "or later; inside a virtual machine, nested virtualization");
}

}  // namespace vibe::vm::vz
