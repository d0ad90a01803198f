#include "vm/qemu/qemu_machine.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/random.h"
#include "base/status.h"
#include "base/subprocess.h"
#include "vm/data_disk.h"
#include "vm/host_room.h"
#include "vm/native/background_machine.h"
#include "vm/native/run_record.h"
#include "vm/qemu/host.h"

extern "C" {
#include <sys/pidfd.h>  // glibc 2.36 forgets to say that these are C
}

namespace vibe::vm::qemu {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

constexpr absl::Duration kPoll = absl::Milliseconds(2);
constexpr absl::Duration kRefusedPause = absl::Milliseconds(1);
constexpr uint64_t kMaxBootBytes = 16 << 10;
constexpr uint64_t kMaxConsoleBytes = 8 << 20;  // the keeper rotates it at 4 MiB
constexpr char kStartLine[] = "---- start";     // of the keeper
constexpr char kReadyLine[] = "vibe-init: ready: ";
constexpr size_t kSecretBytes = 32;
constexpr size_t kSector = 512;  // a disk is made of whole ones
constexpr uint32_t kFirstCid = 3;
constexpr char kHeld[] = "io-error";  // what qemu calls a guest that it stopped for want of room

// A loopback port that is free now. Should another program take it first, qemu says so.
absl::StatusOr<uint16_t> FreePort() {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (!fd.valid() ||
      ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return ErrnoError(errno, "find a free port");
  }
  return ntohs(address.sin_port);
}

// Of all guests on this host each needs its own.
uint32_t RandomCid() {
  uint32_t number = 0;
  if (::getrandom(&number, sizeof number, 0) != sizeof number) {
    number = static_cast<uint32_t>(::getpid());
  }
  return kFirstCid + number % (1u << 30);
}

}  // namespace

QemuMachine::QemuMachine(Options options)
    : options_(std::move(options)), layout_{native::CanonicalDirectory(options_.directory)} {}

absl::StatusOr<UniqueFd> QemuMachine::Process() const {
  return native::OpenRecordedProcess(layout_.record());
}

absl::StatusOr<MachineSpec> QemuMachine::Specify() const {
  MachineSpec spec;
  spec.architecture = HostArchitecture();
  spec.layout = layout_;
  VIBE_ASSIGN_OR_RETURN(spec.qemu, FindQemu());
  VIBE_ASSIGN_OR_RETURN(spec.image, FindGuestImage(options_.images));
  spec.boot.kvm = TestKvm(spec.qemu, spec.image, layout_.kvm_test()).works;
  VIBE_ASSIGN_OR_RETURN(spec.guest, options_.guest(/*emulated=*/!spec.boot.kvm));
  TransportChoice choice = ChooseTransport();
  spec.boot.transport = options_.transport.value_or(choice.transport);
  if (spec.boot.transport == Transport::kDevice) {
    VIBE_ASSIGN_OR_RETURN(spec.vsock_device, FindProgram("vhost-device-vsock"));
  } else {
    spec.boot.secret = RandomHex(kSecretBytes);
  }
  if (spec.boot.transport == Transport::kVhost) {
    spec.boot.cid = RandomCid();
  } else if (spec.boot.transport == Transport::kSerial) {
    VIBE_ASSIGN_OR_RETURN(spec.boot.forward_port, FreePort());
  }
  spec.boot.made_of = MadeOf(spec);
  return spec;
}

absl::Status QemuMachine::StartKeeper(const MachineSpec& spec, const std::string& note) {
  if (!spec.boot.secret.empty()) {
    std::string sector = spec.boot.secret + "\n";
    sector.resize(kSector, '\0');
    VIBE_RETURN_IF_ERROR(ReplaceFile(layout_.secret(), sector, 0600));
  }
  for (const fs::path& stale : {layout_.ready(), layout_.saving()}) {
    VIBE_RETURN_IF_ERROR(RemoveAll(stale));
  }
  VIBE_RETURN_IF_ERROR(ReplaceFile(layout_.boot(), FormatBoot(spec.boot), 0600));
  SubprocessOptions command{.args = {options_.keeper.string(), "--machine",
                                     layout_.directory.string(), "--note", note, "--"},
                            .timeout = options_.start_timeout};
  for (const std::string& word : VsockDeviceCommand(spec)) {
    command.args.push_back(word);
  }
  command.args.emplace_back("--");
  for (const std::string& word : QemuCommand(spec)) {
    command.args.push_back(word);
  }
  VIBE_ASSIGN_OR_RETURN(const SubprocessResult result, RunSubprocess(command));
  return result.exit_code == 0 ? absl::OkStatus()
                               : native::StartError(result.err, "vibe-qemu-keeper");
}

// Until qemu says that the processors run.
absl::Status QemuMachine::AwaitRunning() {
  const absl::Time deadline = absl::Now() + options_.start_timeout;
  while (true) {
    const absl::StatusOr<json> status = Control("query-status");
    if (status.ok() && status->value("running", json(false)) == json(true)) {
      return absl::OkStatus();
    }
    if (!Process().ok()) {
      return WithLog(absl::FailedPreconditionError("qemu ended as soon as it was started"),
                     LastLog());
    }
    if (absl::Now() >= deadline) {
      return WithLog(Annotate(status.ok() ? absl::DeadlineExceededError("the guest does not run")
                                          : status.status(),
                              "qemu was started and does not answer"),
                     LastLog());
    }
    absl::SleepFor(kPoll);
  }
}

absl::Status QemuMachine::Start() {
  absl::MutexLock lock(&power_);
  std::string note;
  if (Process().ok()) {
    const absl::Status usable = Usable();
    if (usable.ok()) {
      return usable;
    }
    VIBE_RETURN_IF_ERROR(KillLocked());
    note = absl::StrCat("a machine that ran was thrown away: ", usable.message());
  }
  resumed_ = false;
  VIBE_RETURN_IF_ERROR(MakeDirectories(layout_.directory, 0700));
  VIBE_RETURN_IF_ERROR(MakeDirectories(layout_.run(), 0700));
  VIBE_RETURN_IF_ERROR(RemoveUnfinished(layout_.directory));
  VIBE_RETURN_IF_ERROR(RemoveUnfinished(layout_.run()));
  VIBE_RETURN_IF_ERROR(CheckRoom(layout_.directory));
  VIBE_ASSIGN_OR_RETURN(const MachineSpec spec, Specify());
  // What is left of a machine whose keeper was killed a moment ago goes by itself.
  VIBE_RETURN_IF_ERROR(native::AwaitUnlocked(layout_.lock(), absl::Now() + options_.kill_timeout));
  absl::StatusOr<OpenSave> save = TakeSave(layout_, spec);
  absl::Status status = save.status();
  if (save.ok()) {
    status = ResumeGuest(spec, *save);
    if (status.ok()) {
      resumed_ = true;
      return status;
    }
    VIBE_RETURN_IF_ERROR(KillLocked());
    VIBE_RETURN_IF_ERROR(MakeDirectories(layout_.run(), 0700));
  }
  if (!absl::IsNotFound(status)) {
    note = absl::StrCat("the saved machine was thrown away: ", status.message());
  }
  status = BootGuest(spec, note);
  if (!status.ok()) {
    KillLocked().IgnoreError();
  }
  return status;
}

absl::Status QemuMachine::BootGuest(const MachineSpec& spec, const std::string& note) {
  VIBE_RETURN_IF_ERROR(DiscardSave(layout_));  // whatever else failed: not over a disk in use
  VIBE_RETURN_IF_ERROR(PrepareDataDisk(layout_.disk(), spec.guest.disk_mib << 20));
  VIBE_RETURN_IF_ERROR(RemoveAll(layout_.memory()));
  VIBE_RETURN_IF_ERROR(StartKeeper(spec, note));
  return AwaitRunning();
}

absl::Status QemuMachine::Usable() const {
  VIBE_ASSIGN_OR_RETURN(const Boot boot, CurrentBoot());
  const absl::StatusOr<json> status = Control("query-status");
  std::error_code error;
  if ((status.ok() && status->is_object() && status->value("running", json()) == json(false) &&
       status->value("status", json()) != json(kHeld)) ||
      (boot.resumed && !fs::exists(layout_.ready(), error)) ||
      fs::exists(layout_.saving(), error)) {
    return absl::FailedPreconditionError("it was being saved or resumed");
  }
  return absl::OkStatus();
}

bool QemuMachine::HeldForRoom() const {
  const absl::StatusOr<json> status = Control("query-status");
  return status.ok() && status->is_object() && status->value("status", json()) == json(kHeld);
}

// A held guest loses nothing: qemu does the write again that failed. But vhost-device-vsock does
// not survive that the guest stood still (see Pause): nobody can call such a guest any more. So it
// is asked to power off, writes all that it has, and is brought back as one that died.
std::string QemuMachine::Hindrance() {
  if (!Process().ok()) {
    return NoRoom(layout_.directory);
  }
  if (!HeldForRoom()) {
    return "";
  }
  std::string full = NoRoom(layout_.directory);
  if (full.empty()) {
    const bool goes_on = Control("cont").ok();  // asked again when it does not
    const absl::StatusOr<Boot> boot = CurrentBoot();
    if (goes_on && boot.ok() && boot->transport == Transport::kDevice) {
      Control("system_powerdown").IgnoreError();
    }
  }
  return full;
}

absl::StatusOr<Boot> QemuMachine::CurrentBoot() const {
  const absl::StatusOr<std::string> text = ReadFile(layout_.boot(), kMaxBootBytes);
  if (!text.ok()) {
    return absl::UnavailableError("the machine is not running");
  }
  absl::StatusOr<Boot> boot = ParseBoot(*text);
  // Unavailable: the next Start makes another one.
  return boot.ok() ? boot
                   : absl::UnavailableError(absl::StrCat("cannot read ", layout_.boot().string(),
                                                         ": ", boot.status().message()));
}

// vhost-device-vsock 0.3 takes no more connections, ever, after one that came while the guest's
// driver started; and a serial port loses what it gets before. So the guest is not dialled before
// its console says that it is ready.
bool QemuMachine::GuestIsReady(const Boot& boot) const {
  std::error_code error;
  if (fs::exists(layout_.ready(), error)) {
    return true;
  }
  if (boot.resumed) {
    return false;  // its console says nothing more; whoever resumes it knows when
  }
  absl::StatusOr<std::string> console = ReadFile(layout_.console_log(), kMaxConsoleBytes);
  if (!console.ok()) {
    return false;
  }
  const size_t start = console->rfind(kStartLine);
  const size_t ready = console->find(kReadyLine, start == std::string::npos ? 0 : start);
  if (ready == std::string::npos) {
    return false;
  }
  ReplaceFile(layout_.ready(), "", 0600).IgnoreError();
  return true;
}

absl::StatusOr<UniqueFd> QemuMachine::Dial(uint32_t port) {
  if (!Process().ok()) {
    return absl::UnavailableError("the machine is not running");
  }
  VIBE_ASSIGN_OR_RETURN(const Boot boot, CurrentBoot());
  if (!GuestIsReady(boot)) {
    return absl::UnavailableError("the guest is still starting");
  }
  const absl::Time deadline = absl::Now() + options_.dial_timeout;
  absl::StatusOr<UniqueFd> stream = dialer_.Dial(layout_, boot, port, deadline);
  // Dials just after a resume were refused at times. Probably the new vsock device numbers its
  // ports from 0 again, and the guest refuses a pair of ports for as long as it has a socket of the
  // old one; each attempt has the next number.
  while (boot.resumed && absl::IsUnavailable(stream.status()) &&
         absl::Now() + kRefusedPause < deadline && Process().ok()) {
    absl::SleepFor(kRefusedPause);
    stream = dialer_.Dial(layout_, boot, port, deadline);
  }
  if (absl::IsDeadlineExceeded(stream.status())) {
    return absl::UnavailableError(absl::StrCat("the guest does not answer on port ", port,
                                               " within ",
                                               absl::FormatDuration(options_.dial_timeout)));
  }
  return stream;
}

absl::StatusOr<json> QemuMachine::Control(const std::string& command) const {
  absl::MutexLock lock(&control_);
  const absl::Time deadline = absl::Now() + options_.control_timeout;
  VIBE_ASSIGN_OR_RETURN(Qmp qmp, Qmp::Connect(layout_.control(), deadline));
  return qmp.Execute(command, json::object(), deadline);
}

absl::Status QemuMachine::RequestShutdown() {
  absl::MutexLock lock(&power_);
  if (!Process().ok()) {
    return absl::OkStatus();
  }
  return Annotate(Control("system_powerdown").status(), "press the machine's power button");
}

absl::Status QemuMachine::EndProcesses() {
  const absl::Time deadline = absl::Now() + options_.kill_timeout;
  // The keeper's children die with it, whether they are stopped or hang.
  if (const absl::StatusOr<UniqueFd> process = Process();
      process.ok() && ::pidfd_send_signal(process->get(), SIGKILL, nullptr, 0) != 0 &&
      errno != ESRCH) {
    return ErrnoError(errno, "kill the machine");
  }
  return Annotate(native::AwaitUnlocked(layout_.lock(), deadline), "kill the machine");
}

absl::Status QemuMachine::KillLocked() {
  VIBE_RETURN_IF_ERROR(EndProcesses());
  VIBE_RETURN_IF_ERROR(DiscardSave(layout_));
  for (const fs::path& path : {layout_.record(), layout_.run(), layout_.memory()}) {
    VIBE_RETURN_IF_ERROR(RemoveAll(path));
  }
  return absl::OkStatus();
}

absl::Status QemuMachine::Kill() {
  absl::MutexLock lock(&power_);
  return KillLocked();
}

absl::Status QemuMachine::Signal(int signal) {
  VIBE_ASSIGN_OR_RETURN(const std::string text, ReadFile(layout_.children(), kMaxBootBytes));
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    VIBE_ASSIGN_OR_RETURN(const native::RunRecord record, native::ParseRecord(line));
    VIBE_ASSIGN_OR_RETURN(const UniqueFd process, native::OpenProcess(record));
    if (::pidfd_send_signal(process.get(), signal, nullptr, 0) != 0) {
      return ErrnoError(errno, "signal the machine");
    }
  }
  return absl::OkStatus();
}

// qemu's own "stop" makes it take the vsock device down and up again, which ends the guest's
// connections, and vhost-device-vsock for good. So the processes stand still, and the guest finds
// that its clock is late when they go on.
absl::Status QemuMachine::Pause() {
  absl::MutexLock lock(&power_);
  if (!Process().ok()) {
    return absl::FailedPreconditionError("the machine is not running");
  }
  VIBE_RETURN_IF_ERROR(ReplaceFile(layout_.paused(), "", 0600));
  return Annotate(Signal(SIGSTOP), "pause the machine");
}

absl::Status QemuMachine::Resume() {
  absl::MutexLock lock(&power_);
  if (!Process().ok()) {
    return absl::FailedPreconditionError("the machine is not running");
  }
  VIBE_RETURN_IF_ERROR(Annotate(Signal(SIGCONT), "let the machine go on"));
  return RemoveAll(layout_.paused());
}

PowerState QemuMachine::state() const {
  if (!Process().ok()) {
    return PowerState::kOff;
  }
  std::error_code error;
  return fs::exists(layout_.paused(), error) ? PowerState::kPaused : PowerState::kOn;
}

std::vector<std::string> QemuMachine::LastLog() const {
  return native::LastLines(layout_.console_log());
}

}  // namespace vibe::vm::qemu
