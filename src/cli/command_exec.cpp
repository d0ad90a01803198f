#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <memory>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cli/commands.h"
#include "cli/error_text.h"
#include "cli/exec_stream.h"
#include "cli/raw_terminal.h"
#include "cli/signals.h"

namespace vibe::cli {
namespace {

constexpr size_t kMaxCaptured = 16 << 20;  // with --json, which needs all of it before it can print
constexpr int kMaxInterrupts = 3;          // a command that ignores Ctrl-C cannot hold the user
constexpr int kExitBrokenPipe = 141;       // as if SIGPIPE had ended it

struct Mode {
  bool interactive = false;
  bool tty = false;
};

// A person at a terminal wants both; a script that says nothing gets neither, so that a loop around
// vibe keeps its input.
Mode ChooseMode(const Session& session, const Invocation& invocation) {
  const bool person = !session.json() && session.out().terminal && ::isatty(STDIN_FILENO) == 1;
  Mode mode;
  mode.interactive = invocation.interactive.value_or(person);
  mode.tty = invocation.tty.value_or(person && mode.interactive);
  return mode;
}

ApiRequest ExecRequest(const Invocation& invocation, const Mode& mode) {
  ApiRequest request;
  request.method = "POST";
  request.target = ProjectTarget(invocation.name, "/exec");
  Json body;
  body["command"] = invocation.words;
  if (!invocation.service.empty()) {
    body["service"] = invocation.service;
  }
  if (mode.tty) {
    const ScreenSize size = MeasureScreen(STDOUT_FILENO);
    body["tty"] = true;
    body["columns"] = size.width;
    body["rows"] = size.height;
    const char* term = std::getenv("TERM");  // NOLINT(concurrency-mt-unsafe)
    if (term != nullptr && term[0] != '\0') {
      body["env"] = {{"TERM", term}};
    }
  }
  request.body = std::move(body);
  return request;
}

absl::Status WriteAll(int fd, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return errno == EPIPE ? absl::CancelledError("nobody reads the output")
                            : ErrnoError(errno, "cannot write the command's output");
    }
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

struct Captured {
  std::string out;
  std::string err;
};

ExecStream::Sink CaptureInto(Captured& captured) {
  return [&captured](ExecStream::Source source, absl::string_view bytes) -> absl::Status {
    std::string& text = source == ExecStream::Source::kStdout ? captured.out : captured.err;
    if (captured.out.size() + captured.err.size() + bytes.size() > kMaxCaptured) {
      return WithAdvice(absl::ResourceExhaustedError(
                            "the command wrote more than the 16 MiB that --json can hold"),
                        "run it without --json");
    }
    text.append(bytes.data(), bytes.size());
    return absl::OkStatus();
  };
}

// `reader_gone` is set when nobody reads the output any more, which is no error.
ExecStream::Sink ForwardAll(bool& reader_gone) {
  return [&reader_gone](ExecStream::Source source, absl::string_view bytes) {
    const absl::Status status =
        WriteAll(source == ExecStream::Source::kStdout ? STDOUT_FILENO : STDERR_FILENO, bytes);
    reader_gone = absl::IsCancelled(status);
    return status;
  };
}

absl::StatusOr<http::UpgradedStream> Connect(Session& session, const Invocation& invocation,
                                             const Mode& mode) {
  const std::unique_ptr<ApiClient> client = session.NewClient();
  std::atomic<bool> interrupted = false;
  const SignalWatch signals({SIGINT, SIGTERM, SIGHUP}, [&](int) {
    interrupted = true;
    client->Cancel();
  });
  VIBE_RETURN_IF_ERROR(session.Ready([&] { return interrupted.load(); }));
  return client->Upgrade(ExecRequest(invocation, mode), "vibe-exec");
}

absl::StatusOr<int> Converse(ExecStream& stream, const Mode& mode, const ExecStream::Sink& sink) {
  std::atomic<int> interrupts = 0;
  // Made after the watch and ended before it, so that no signal finds the terminal raw and nobody
  // listening.
  const SignalWatch signals({SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGWINCH}, [&](int number) {
    if (number == SIGWINCH) {
      if (mode.tty) {
        stream.SendSize(MeasureScreen(STDOUT_FILENO));
      }
      return;
    }
    stream.SendSignal(number);
    if (number == SIGHUP || ++interrupts >= kMaxInterrupts) {
      stream.GiveUp();
    }
  });
  RawTerminal terminal;
  if (mode.tty && mode.interactive) {
    terminal.Enter(STDIN_FILENO);
  }
  return stream.Run(mode.interactive ? STDIN_FILENO : -1, sink);
}

}  // namespace

absl::StatusOr<int> RunExec(Session& session, const Invocation& invocation) {
  const Mode mode = ChooseMode(session, invocation);
  VIBE_ASSIGN_OR_RETURN(http::UpgradedStream connection, Connect(session, invocation, mode));
  VIBE_ASSIGN_OR_RETURN(const std::unique_ptr<ExecStream> stream,
                        ExecStream::Make(std::move(connection)));
  Captured captured;
  bool reader_gone = false;
  const absl::StatusOr<int> exit_code =
      Converse(*stream, mode, session.json() ? CaptureInto(captured) : ForwardAll(reader_gone));
  if (reader_gone) {
    return kExitBrokenPipe;
  }
  VIBE_RETURN_IF_ERROR(exit_code.status());
  if (session.json()) {
    session.Print(
        "", Json{{"exitCode", *exit_code}, {"stdout", captured.out}, {"stderr", captured.err}});
  }
  return *exit_code;
}

}  // namespace vibe::cli
