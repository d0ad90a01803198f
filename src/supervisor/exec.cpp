#include "supervisor/exec.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/random.h"
#include "base/status.h"
#include "supervisor/rootfs.h"
#include "supervisor/service_container.h"

namespace vibe::supervisor {
namespace {

constexpr size_t kBufferBytes = 64 << 10;
constexpr int kMaxArguments = 4096;
constexpr size_t kMaxArgumentBytes = 1 << 20;
constexpr uint32_t kMaxTerminalSide = 10'000;
constexpr uint32_t kMaxSignal = 64;
constexpr char kEndOfTransmission = 4;  // what a person types to end a terminal's input
// For this long a containerd that is down is waited for: the command runs on meanwhile.
constexpr absl::Duration kOutage = absl::Minutes(1);

absl::Status CheckStart(const v1::ExecRequest::Start& start) {
  size_t bytes = 0;
  bool zero = false;
  const auto count = [&](const std::string& text) {
    bytes += text.size();
    zero = zero || absl::StrContains(text, '\0');
  };
  for (const std::string& argument : start.command()) {
    count(argument);
  }
  for (const auto& [name, value] : start.env()) {
    count(name);
    count(value);
    zero = zero || name.empty() || absl::StrContains(name, '=');
  }
  count(start.working_dir());
  if (start.command().empty() || start.command(0).empty()) {
    return absl::InvalidArgumentError("there is no command to run");
  }
  if (start.command_size() > kMaxArguments || bytes > kMaxArgumentBytes || zero) {
    return absl::InvalidArgumentError(
        "the command or its environment is too long or holds a zero byte");
  }
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> OpenFifo(const std::filesystem::path& path, int flags) {
  if (::mkfifo(path.c_str(), 0600) != 0 && errno != EEXIST) {
    return ErrnoError(errno, absl::StrCat("make ", path.string()));
  }
  UniqueFd fifo(::open(path.c_str(), flags | O_NONBLOCK | O_CLOEXEC));
  if (!fifo.valid()) {
    return ErrnoError(errno, absl::StrCat("open ", path.string()));
  }
  return fifo;
}

// crun's message names the program; what is around it does not help anybody.
absl::Status ExplainStart(const absl::Status& status, const v1::ExecRequest::Start& start) {
  if (absl::StrContains(status.message(), "executable file") ||
      absl::StrContains(status.message(), "No such file or directory") ||
      absl::StrContains(status.message(), "Permission denied")) {
    return WithAdvice(
        absl::InvalidArgumentError(absl::StrCat("the service has no program ", start.command(0),
                                                " that can be run: ", status.message())),
        "give the program's full path, or one that the service's image has");
  }
  return Annotate(status, absl::StrCat("run ", start.command(0)));
}

}  // namespace

ExecSession::ExecSession(ExecTarget target, v1::ExecRequest::Start start)
    : target_(std::move(target)),
      start_(std::move(start)),
      id_(absl::StrCat("exec-", RandomHex(8))),
      folder_(target_.directory / id_),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

ExecSession::~ExecSession() {
  RemoveAll(folder_).IgnoreError();
}

void ExecSession::Wake() {
  const uint64_t one = 1;
  // A full counter has woken the loop already.
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
}

void ExecSession::Put(v1::ExecRequest input) {
  {
    absl::MutexLock lock(&mutex_);
    inputs_.push_back(std::move(input));
  }
  Wake();
}

void ExecSession::Abandon() {
  abandoned_ = true;
  Wake();
}

absl::Status ExecSession::Prepare() {
  VIBE_RETURN_IF_ERROR(CheckStart(start_));
  VIBE_RETURN_IF_ERROR(MakeDirectories(target_.directory, 0700));
  if (!wake_.valid() || ::mkdir(folder_.c_str(), 0700) != 0) {
    return ErrnoError(errno, "prepare to run a command");
  }
  // Open in both directions, they have no end of file, and so none that comes before the shim opens
  // its side. That all has come is known from the process's deletion.
  VIBE_ASSIGN_OR_RETURN(stdout_, OpenFifo(folder_ / "stdout", O_RDWR));
  if (!start_.tty()) {
    VIBE_ASSIGN_OR_RETURN(stderr_, OpenFifo(folder_ / "stderr", O_RDWR));
  }
  VIBE_ASSIGN_OR_RETURN(stdin_hold_, OpenFifo(folder_ / "stdin", O_RDONLY));
  VIBE_ASSIGN_OR_RETURN(stdin_, OpenFifo(folder_ / "stdin", O_WRONLY));
  return absl::OkStatus();
}

absl::StatusOr<std::optional<ResolvedUser>> ExecSession::User() const {
  if (start_.user().empty()) {
    return std::nullopt;
  }
  VIBE_ASSIGN_OR_RETURN(const std::vector<containerd::Mount> mounts,
                        target_.containerd.SnapshotMounts(target_.ns, target_.container_id));
  const std::vector<std::string> layers = LayerDirectories(mounts);
  VIBE_ASSIGN_OR_RETURN(ResolvedUser user,
                        ResolveUser(start_.user(), ReadImageFile(layers, "etc/passwd"),
                                    ReadImageFile(layers, "etc/group")));
  return user;
}

absl::StatusOr<uint32_t> ExecSession::Run(const OutputSink& output,
                                          const std::function<void()>& on_input_taken) {
  VIBE_RETURN_IF_ERROR(Prepare());
  containerd::Client& client = target_.containerd;
  VIBE_ASSIGN_OR_RETURN(const std::string spec, SpecOf(client, target_.ns, target_.container_id));
  VIBE_ASSIGN_OR_RETURN(const std::optional<ResolvedUser> user, User());
  const std::string process =
      ExecProcess(spec, {start_.command().begin(), start_.command().end()},
                  {start_.env().begin(), start_.env().end()}, start_.working_dir(), start_.tty(),
                  user ? &*user : nullptr);
  VIBE_RETURN_IF_ERROR(
      client.ExecTask(target_.ns, target_.container_id, id_, process,
                      {.stdin_path = (folder_ / "stdin").string(),
                       .stdout_uri = (folder_ / "stdout").string(),
                       .stderr_uri = start_.tty() ? "" : (folder_ / "stderr").string(),
                       .terminal = start_.tty()}));
  if (absl::Status started = client.StartTask(target_.ns, target_.container_id, id_);
      !started.ok()) {
    client.DeleteExec(target_.ns, target_.container_id, id_).IgnoreError();
    return ExplainStart(started, start_);
  }
  if (start_.tty() && start_.columns() > 0 && start_.rows() > 0) {
    // A command that ended already has no terminal to be resized.
    client
        .ResizeTask(target_.ns, target_.container_id, id_,
                    std::min(start_.columns(), kMaxTerminalSide),
                    std::min(start_.rows(), kMaxTerminalSide))
        .IgnoreError();
  }
  absl::StatusOr<uint32_t> exit_code = absl::InternalError("");
  // Output must be read while the deletion waits for the rest of it.
  std::thread waiter([&] {
    absl::Time give_up = absl::InfiniteFuture();
    do {
      exit_code = client.WaitTask(target_.ns, target_.container_id, absl::InfiniteDuration(), id_);
      give_up = std::min(give_up, absl::Now() + kOutage);
    } while (absl::IsUnavailable(exit_code.status()) && absl::Now() < give_up);
    client.DeleteExec(target_.ns, target_.container_id, id_).IgnoreError();
    ended_ = true;
    Wake();
  });
  const absl::Status pumped = Pump(output, on_input_taken).status();
  waiter.join();
  RemoveAll(folder_).IgnoreError();  // the destructor tries again
  VIBE_RETURN_IF_ERROR(pumped);
  return exit_code;
}

absl::StatusOr<uint32_t> ExecSession::Pump(const OutputSink& output,
                                           const std::function<void()>& on_input_taken) {
  absl::Status status;
  bool killed = false;
  while (true) {
    const bool ended = ended_;  // before the reads: what came until then is read below
    if (status.ok() && abandoned_) {
      status = absl::CancelledError("the command was ended because its caller went away");
    }
    if (!status.ok() && !std::exchange(killed, true)) {
      target_.containerd.KillTask(target_.ns, target_.container_id, SIGKILL, false, id_)
          .IgnoreError();
      CloseInput();
    }
    status.Update(Forward(stdout_.get(), Stream::kStdout, status.ok() ? output : nullptr));
    status.Update(Forward(stderr_.get(), Stream::kStderr, status.ok() ? output : nullptr));
    if (ended) {
      break;
    }
    TakeInput(on_input_taken);
    WriteInput(on_input_taken);
    std::array<pollfd, 4> waiting = {{{wake_.get(), POLLIN, 0},
                                      {stdout_.get(), POLLIN, 0},
                                      {stderr_.valid() ? stderr_.get() : -1, POLLIN, 0},
                                      {pending_.empty() ? -1 : stdin_.get(), POLLOUT, 0}}};
    ::poll(waiting.data(), waiting.size(), -1);
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = ::read(wake_.get(), &count, sizeof count);
  }
  VIBE_RETURN_IF_ERROR(status);
  return 0;
}

absl::Status ExecSession::Forward(int fd, Stream stream, const OutputSink& output) {
  if (fd < 0) {
    return absl::OkStatus();
  }
  std::vector<char> buffer(kBufferBytes);
  // A bounded turn, so that input is served too while a program writes without end.
  for (int turn = 0; turn < 16 || ended_; ++turn) {
    const ssize_t count = ::read(fd, buffer.data(), buffer.size());
    if (count <= 0) {
      return absl::OkStatus();
    }
    if (output != nullptr) {
      VIBE_RETURN_IF_ERROR(
          output(stream, absl::string_view(buffer.data(), static_cast<size_t>(count))));
    }
  }
  return absl::OkStatus();
}

void ExecSession::TakeInput(const std::function<void()>& on_input_taken) {
  containerd::Client& client = target_.containerd;
  while (pending_.empty()) {
    v1::ExecRequest input;
    {
      absl::MutexLock lock(&mutex_);
      if (inputs_.empty()) {
        return;
      }
      input = std::move(inputs_.front());
      inputs_.pop_front();
    }
    // Each of these may come too late for a process that has just ended: that is no fault.
    switch (input.step_case()) {
      case v1::ExecRequest::kStdin:
        if (stdin_.valid() && !input.stdin().empty()) {
          pending_ = input.stdin();
          return;  // taken when it is written
        }
        break;
      case v1::ExecRequest::kCloseStdin:
        if (start_.tty()) {
          // The shim would close the terminal, and what the program still says would be lost.
          pending_.assign(1, kEndOfTransmission);
          return;
        }
        CloseInput();
        break;
      case v1::ExecRequest::kResize:
        if (start_.tty()) {
          client
              .ResizeTask(target_.ns, target_.container_id, id_,
                          std::min(input.resize().columns(), kMaxTerminalSide),
                          std::min(input.resize().rows(), kMaxTerminalSide))
              .IgnoreError();
        }
        break;
      case v1::ExecRequest::kSignal:
        if (input.signal() >= 1 && input.signal() <= kMaxSignal) {
          client
              .KillTask(target_.ns, target_.container_id, static_cast<int>(input.signal()), false,
                        id_)
              .IgnoreError();
        }
        break;
      default:
        break;
    }
    on_input_taken();
  }
}

void ExecSession::WriteInput(const std::function<void()>& on_input_taken) {
  while (!pending_.empty()) {
    const ssize_t count =
        stdin_.valid() ? ::write(stdin_.get(), pending_.data(), pending_.size()) : -1;
    if (count < 0 && stdin_.valid() && (errno == EAGAIN || errno == EINTR)) {
      return;
    }
    if (count < 0) {
      pending_.clear();  // closed, or nobody reads
    } else {
      pending_.erase(0, static_cast<size_t>(count));
    }
    if (pending_.empty()) {
      on_input_taken();
      TakeInput(on_input_taken);
    }
  }
}

void ExecSession::CloseInput() {
  if (!stdin_.valid()) {
    return;
  }
  // The shim writes to the fifo as well, only to keep it open: it ends when both have closed it.
  target_.containerd.CloseStdin(target_.ns, target_.container_id, id_).IgnoreError();
  stdin_.reset();
}

}  // namespace vibe::supervisor
