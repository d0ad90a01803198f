#include "vibe_program.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#ifdef __APPLE__
#include <util.h>
#else
#include <pty.h>
#endif

#include <csignal>
#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/random.h"
#include "base/subprocess.h"

namespace vibe::cli {
namespace {

constexpr char kProgram[] = VIBE_TEST_BIN_DIR "/vibe";

int ExitCode(int wait_status) {
  return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

}  // namespace

ScriptedHome::ScriptedHome()
    : path_(std::filesystem::temp_directory_path() / absl::StrCat("vibe-home-", RandomHex(6))) {
  EXPECT_TRUE(MakeDirectories(path_, 0700).ok());
  On("GET /v1/version",
     vibe::testing::Reply(200, absl::StrCat(R"({"version":")", VIBE_TEST_VERSION,
                                            R"(","pid":1,"home":")", path_.string(), "\"}")));
  server_ = std::make_unique<vibe::testing::ScriptedServer>(
      path_ / "vibed.sock", [this](const auto& request) { return Answer(request); });
}

ScriptedHome::~ScriptedHome() {
  server_.reset();
  EXPECT_TRUE(RemoveAll(path_).ok());
}

void ScriptedHome::On(const std::string& request, const vibe::testing::ScriptedReply& reply) {
  absl::MutexLock lock(&mutex_);
  replies_[request] = reply;
}

std::vector<vibe::testing::SeenRequest> ScriptedHome::Seen(const std::string& target) const {
  std::vector<vibe::testing::SeenRequest> seen;
  for (const vibe::testing::SeenRequest& request : server_->requests()) {
    if (request.target == target) {
      seen.push_back(request);
    }
  }
  return seen;
}

vibe::testing::ScriptedReply ScriptedHome::Answer(const vibe::testing::SeenRequest& request) {
  absl::MutexLock lock(&mutex_);
  const auto found = replies_.find(absl::StrCat(request.method, " ", request.target));
  return found != replies_.end()
             ? found->second
             : vibe::testing::Reply(
                   404, R"({"error":{"code":"NOT_FOUND","reason":"NOT_FOUND",)"
                        R"("message":"there is no such thing","advice":"see `vibe ps`"}})");
}

Finished RunProgram(const ScriptedHome& home, const std::vector<std::string>& args,
                    const std::string& input) {
  SubprocessOptions options;
  options.args = {kProgram, "--home", home.path().string()};
  options.args.insert(options.args.end(), args.begin(), args.end());
  options.input = input;
  const absl::StatusOr<SubprocessResult> result = RunSubprocess(options);
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? Finished{result->exit_code, result->out, result->err} : Finished{};
}

TerminalProgram::TerminalProgram(const ScriptedHome& home, const std::vector<std::string>& args) {
  std::vector<std::string> words = {kProgram, "--home", home.path().string()};
  words.insert(words.end(), args.begin(), args.end());
  std::vector<char*> pointers;
  for (std::string& word : words) {
    pointers.push_back(word.data());
  }
  pointers.push_back(nullptr);
  winsize size{};
  size.ws_col = 100;
  size.ws_row = 30;
  int terminal = -1;
  pid_ = ::forkpty(&terminal, nullptr, nullptr, &size);
  if (pid_ == 0) {
    ::execv(kProgram, pointers.data());
    ::_exit(127);
  }
  EXPECT_GT(pid_, 0);
  terminal_.reset(terminal);
}

TerminalProgram::~TerminalProgram() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
}

void TerminalProgram::Type(const std::string& keys) {
  EXPECT_EQ(::write(terminal_.get(), keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
}

void TerminalProgram::Resize(int columns, int rows) {
  winsize size{};
  size.ws_col = static_cast<unsigned short>(columns);
  size.ws_row = static_cast<unsigned short>(rows);
  EXPECT_EQ(::ioctl(terminal_.get(), TIOCSWINSZ, &size), 0);
}

void TerminalProgram::Signal(int number) {
  ::kill(pid_, number);
}

bool TerminalProgram::WaitFor(const std::string& text) {
  const absl::Time deadline = absl::Now() + absl::Seconds(10);
  while (!absl::StrContains(screen_, text)) {
    if (absl::Now() > deadline || !Read(200)) {
      return absl::StrContains(screen_, text);
    }
  }
  return true;
}

int TerminalProgram::Wait() {
  const absl::Time deadline = absl::Now() + absl::Seconds(10);
  while (absl::Now() < deadline && Read(200)) {
  }
  int status = 0;
  while (::waitpid(pid_, &status, WNOHANG) == 0) {
    if (absl::Now() > deadline) {
      ADD_FAILURE() << "vibe does not end; on the screen: " << screen_;
      return -1;
    }
    absl::SleepFor(absl::Milliseconds(5));
  }
  pid_ = -1;
  return ExitCode(status);
}

bool TerminalProgram::Echoes() const {
  termios mode{};
  ::tcgetattr(terminal_.get(), &mode);
  return (mode.c_lflag & ECHO) != 0;
}

// False when the program has closed the terminal.
bool TerminalProgram::Read(int timeout_ms) {
  pollfd wait{terminal_.get(), POLLIN, 0};
  if (::poll(&wait, 1, timeout_ms) <= 0) {
    return true;
  }
  char bytes[4096];
  const ssize_t count = ::read(terminal_.get(), bytes, sizeof bytes);
  if (count <= 0) {
    return false;
  }
  screen_.append(bytes, static_cast<size_t>(count));
  return true;
}

}  // namespace vibe::cli
