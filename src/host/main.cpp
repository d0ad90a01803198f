// vibed: the host's side of Vibe. SIGTERM ends it within two seconds; the machine and its projects
// run on, and the next vibed finds them again. On a Mac the machine belongs to the process: SIGTERM
// powers it off first, and the next vibed boots it.
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "host/daemon.h"
#include "host/home.h"
#include "spdlog/sinks/rotating_file_sink.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"
#include "vm/backends.h"

namespace vibe::host {
namespace {

constexpr char kVersion[] = VIBE_VERSION;
constexpr rlim_t kMaxOpenFiles = 20'000;
constexpr size_t kLogBytes = 5 << 20;
constexpr size_t kLogFiles = 3;
// An earlier vibed may be on its way out.
constexpr absl::Duration kLockPatience = absl::Milliseconds(2500);
// A request that waits for the machine does not end for our sake.
#ifdef __APPLE__
// The machine ends with us and is given the time to sync its disk: vm/vz/vz_machine.h.
constexpr absl::Duration kLastResort = absl::Seconds(40);
#else
constexpr absl::Duration kLastResort = absl::Milliseconds(1700);
#endif

struct Arguments {
  std::string home;
  std::string log_level = "info";
  bool foreground = false;
};

// Every port has a socket, every connection through it two.
void RaiseFileLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = std::max(limit.rlim_cur, std::min(limit.rlim_max, kMaxOpenFiles));
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
}

absl::Status StartLog(const std::filesystem::path& home, const Arguments& arguments) {
  const std::filesystem::path directory = home / "logs";
  VIBE_RETURN_IF_ERROR(MakeDirectories(directory, 0700));
  try {
    std::vector<spdlog::sink_ptr> sinks = {std::make_shared<spdlog::sinks::rotating_file_sink_mt>(
        (directory / "vibed.log").string(), kLogBytes, kLogFiles)};
    if (arguments.foreground) {
      sinks.push_back(std::make_shared<spdlog::sinks::stderr_sink_mt>());
    }
    auto logger = std::make_shared<spdlog::logger>("vibed", sinks.begin(), sinks.end());
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
    logger->set_level(spdlog::level::from_str(arguments.log_level));
    logger->flush_on(spdlog::level::info);
    spdlog::set_default_logger(std::move(logger));
  } catch (const spdlog::spdlog_ex& error) {
    return absl::UnavailableError(absl::StrCat("cannot write the log: ", error.what()));
  }
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> WaitForLock(const std::filesystem::path& home) {
  const absl::Time give_up = absl::Now() + kLockPatience;
  while (true) {
    absl::StatusOr<UniqueFd> lock = LockHome(home);
    if (!absl::IsAlreadyExists(lock.status()) || absl::Now() >= give_up) {
      return lock;
    }
    absl::SleepFor(absl::Milliseconds(50));
  }
}

absl::Status Run(const Arguments& arguments, const sigset_t& signals) {
  VIBE_ASSIGN_OR_RETURN(const std::filesystem::path home, FindHome(arguments.home));
  VIBE_RETURN_IF_ERROR(PrepareHome(home));
  VIBE_ASSIGN_OR_RETURN(const UniqueFd lock, WaitForLock(home));
  VIBE_RETURN_IF_ERROR(StartLog(home, arguments));
  RaiseFileLimit();
  vm::BackendOptions wanted;
  wanted.home = home;
  absl::StatusOr<vm::Backend> backend = vm::MakeBackend(wanted);
  if (!backend.ok()) {
    spdlog::error("{}", std::string(backend.status().message()));
    return backend.status();
  }
  absl::StatusOr<std::unique_ptr<Daemon>> daemon =
      Daemon::Start({home, kVersion, *std::move(backend)});
  if (!daemon.ok()) {
    spdlog::error("{}", std::string(daemon.status().message()));
    return daemon.status();
  }
  spdlog::info("vibed {} serves {}", kVersion, (home / kSocketName).string());
  int number = 0;
  while (::sigwait(&signals, &number) != 0 || number == SIGHUP) {
  }
  spdlog::info("ending: signal {}", number);
  std::thread([] {
    absl::SleepFor(kLastResort);
    spdlog::warn("ending with requests that still wait");
    ::_exit(0);
  }).detach();
  daemon->reset();
  spdlog::info("ended");
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app{
      "vibed: Vibe's process on this computer. The vibe program starts it when it is needed."};
  app.set_version_flag("--version", absl::StrCat("vibed ", kVersion));
  app.add_option("--home", arguments.home,
                 "Vibe's folder (default: the environment's VIBE_HOME, else ~/.vibe)");
  app.add_flag("--foreground", arguments.foreground, "log to the terminal too");
  app.add_option("--log-level", arguments.log_level, "how much is logged")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  // Before any thread exists: all inherit it.
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) {
    sigaddset(&signals, number);
  }
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  const absl::Status status = Run(arguments, signals);
  if (!status.ok()) {
    const std::string advice = AdviceOf(status);
    std::fprintf(stderr, "error: %s%s%s\n", std::string(status.message()).c_str(),
                 advice.empty() ? "" : "; ", advice.c_str());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace vibe::host

int main(int argc, char** argv) {
  return vibe::host::Main(argc, argv);
}
