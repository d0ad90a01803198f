// vibe-logger: the program that containerd's shim runs beside each container, for a task whose
// output is `binary:///path/vibe-logger?file=/path/web.log&secrets=/path/values`.
// docs/formats/logs.md says what it must do. It lives and dies with its container: neither the
// supervisor nor containerd is needed while it runs.

#include <fcntl.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "logs/line_splitter.h"
#include "logs/log_sink.h"
#include "logs/record_line.h"
#include "logs/rotating_file.h"
#include "logs/secret_mask.h"

namespace vibe::logs {
namespace {

// The shim's agreement with a logger.
constexpr int kStdoutFd = 3;
constexpr int kStderrFd = 4;
constexpr int kReadyFd = 5;
// After SIGTERM the shim waits 12 seconds, then it kills.
constexpr time_t kTermPatience = 8;

constexpr size_t kReadBytes = 16 << 10;
constexpr int kPipeBytes = 256 << 10;  // so that a slow disk is not at once a slow service
constexpr size_t kMaxSecretsBytes = 1 << 20;

struct Options {
  std::string file;
  std::string secrets;
};

// The shim gives the URI's query as alternating keys and values, in no fixed order.
std::optional<Options> ParseArguments(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view key = argv[i];
    if (key == "file") {
      options.file = argv[i + 1];
    } else if (key == "secrets") {
      options.secrets = argv[i + 1];
    } else {
      return std::nullopt;
    }
  }
  const bool paired = argc % 2 == 1;
  const bool absolute = options.file.starts_with('/') &&
                        (options.secrets.empty() || options.secrets.starts_with('/'));
  return paired && absolute ? std::optional(options) : std::nullopt;
}

timespec Now() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return now;
}

time_t MonotonicSeconds() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec;
}

// The file holds the values one after another, each ended by a NUL byte. 0 or an errno.
int ReadSecrets(const std::string& path, std::vector<std::string>& values) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) {
    return errno;
  }
  std::string bytes;
  char buffer[kReadBytes];
  while (true) {
    const ssize_t count = ::read(fd.get(), buffer, sizeof buffer);
    if (count < 0) {
      if (errno == EINTR) {
        continue;
      }
      return errno;
    }
    if (count == 0) {
      break;
    }
    bytes.append(buffer, static_cast<size_t>(count));
    if (bytes.size() > kMaxSecretsBytes) {
      return EFBIG;
    }
  }
  if (!bytes.empty() && bytes.back() != '\0') {
    return EBADMSG;  // only half of it is there
  }
  for (size_t start = 0; start < bytes.size();) {
    const size_t end = bytes.find('\0', start);
    values.push_back(bytes.substr(start, end - start));
    start = end + 1;
  }
  return 0;
}

struct Source {
  UniqueFd fd;
  LineSplitter splitter;
};

class Logger {
 public:
  Logger(LogSink sink, const SecretMask& mask, bool withhold)
      : sink_(std::move(sink)),
        withhold_(withhold),
        sources_{{UniqueFd(kStdoutFd), LineSplitter(Stream::kStdout, mask)},
                 {UniqueFd(kStderrFd), LineSplitter(Stream::kStderr, mask)}} {
    for (const Source& source : sources_) {
      ::fcntl(source.fd.get(), F_SETPIPE_SZ, kPipeBytes);  // it works without
    }
  }

  // Until both streams have ended, or too long after SIGTERM. A service may write its last words
  // after the signal that ends the machine, so that the signal alone is no end.
  void Run(const UniqueFd& signals) {
    std::optional<time_t> deadline;
    while (sources_[0].fd.valid() || sources_[1].fd.valid()) {
      pollfd polls[3] = {{sources_[0].fd.get(), POLLIN, 0},
                         {sources_[1].fd.get(), POLLIN, 0},
                         {deadline ? -1 : signals.get(), POLLIN, 0}};
      if (deadline && MonotonicSeconds() >= *deadline) {
        break;
      }
      if (::poll(polls, 3, deadline ? 1000 : -1) < 0) {
        continue;  // EINTR
      }
      for (size_t i = 0; i < 2; ++i) {
        if (polls[i].revents != 0) {
          ReadFrom(sources_[i]);
        }
      }
      if (polls[2].revents != 0) {
        deadline = MonotonicSeconds() + kTermPatience;
      }
      Flush();
    }
    for (Source& source : sources_) {
      source.splitter.Finish(now_, lines_);
    }
    Flush();
    sink_.Finish(Now());
  }

 private:
  void ReadFrom(Source& source) {
    char buffer[kReadBytes];
    const ssize_t count = ::read(source.fd.get(), buffer, sizeof buffer);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) {
      return;
    }
    now_ = Now();
    if (count <= 0) {
      source.splitter.Finish(now_, lines_);
      source.fd.reset();
    } else if (!withhold_) {
      source.splitter.Feed({buffer, static_cast<size_t>(count)}, now_, lines_);
    }
  }

  void Flush() {
    sink_.Write(lines_, now_);
    lines_.clear();
  }

  LogSink sink_;
  const bool withhold_;
  Source sources_[2];
  std::string lines_;
  timespec now_{};
};

int Main(int argc, char** argv) {
  const std::optional<Options> options = ParseArguments(argc, argv);
  if (!options) {
    std::fprintf(stderr,
                 "usage: vibe-logger file /PATH/NAME.log [secrets /PATH]\n"
                 "containerd starts it, as binary:///PATH/vibe-logger?file=/PATH/NAME.log\n");
    return 2;
  }
  for (const int fd : {kStdoutFd, kStderrFd}) {
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
      std::fprintf(stderr, "vibe-logger: descriptor %d is not open: containerd is to start it\n",
                   fd);
      return 2;
    }
  }
  // Whatever stops the others must not end the log before them.
  for (const int ignored : {SIGHUP, SIGINT, SIGQUIT, SIGPIPE}) {
    std::signal(ignored, SIG_IGN);
  }
  sigset_t term;
  ::sigemptyset(&term);
  ::sigaddset(&term, SIGTERM);
  ::sigprocmask(SIG_BLOCK, &term, nullptr);
  const UniqueFd signals(::signalfd(-1, &term, SFD_CLOEXEC));
  if (::chdir("/") != 0) {
    // Then the bundle's folder stays in use, which costs a warning at its removal and no more.
  }

  std::vector<std::string> values;
  const int error = options->secrets.empty() ? 0 : ReadSecrets(options->secrets, values);
  const SecretMask mask(values);
  LogSink sink(RotatingFile(options->file, kMaxFileBytes, kMaxRotated));
  sink.Open(Now());
  if (error != 0) {
    // Rather no log than one with secrets in it. The service itself must go on.
    sink.Note(
        "vibe-logger: the output of this service is not recorded, since its secret values could "
        "not "
        "be read from " +
            options->secrets + ": " + std::strerror(error) + "; restart the service",
        Now());
  }
  ::close(kReadyFd);
  Logger(std::move(sink), mask, error != 0).Run(signals);
  return 0;
}

}  // namespace
}  // namespace vibe::logs

int main(int argc, char** argv) {
  return vibe::logs::Main(argc, argv);
}
