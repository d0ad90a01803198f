#include "host/home.h"

#include <fcntl.h>
#include <pwd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status.h"

namespace vibe::host {
namespace {

namespace fs = std::filesystem;

constexpr char kLockName[] = "vibed.lock";
// The longest socket below a home.
constexpr char kLongestSocket[] = "machine/native/run/supervisor.sock";

fs::path UserHome() {
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/') {
    return home;
  }
  const passwd* user = ::getpwuid(::getuid());
  return user == nullptr || user->pw_dir == nullptr ? fs::path("/") : fs::path(user->pw_dir);
}

}  // namespace

absl::StatusOr<fs::path> FindHome(const std::string& given) {
  fs::path home = given;
  if (const char* variable = std::getenv("VIBE_HOME"); home.empty() && variable != nullptr) {
    home = variable;
  }
  if (home.empty()) {
    home = UserHome() / ".vibe";
  }
  std::error_code error;
  home = fs::absolute(home, error).lexically_normal();
  if (error) {
    return ErrnoError(error.value(), given);
  }
  if (!home.has_filename()) {
    home = home.parent_path();  // no slash at the end
  }
  const size_t longest = (home / kLongestSocket).native().size();
  constexpr size_t kLimit = sizeof(sockaddr_un::sun_path) - 1;
  if (longest > kLimit) {
    return WithAdvice(absl::InvalidArgumentError(
                          absl::StrCat("the path ", home.string(), " is ", longest - kLimit,
                                       " bytes too long: the addresses of the sockets in it "
                                       "have at most ",
                                       kLimit, " bytes")),
                      "set VIBE_HOME to a shorter path");
  }
  return home;
}

absl::Status PrepareHome(const fs::path& home) {
  VIBE_RETURN_IF_ERROR(MakeDirectories(home, 0700));
  struct stat info {};
  if (::stat(home.c_str(), &info) != 0) {
    return ErrnoError(errno, home.string());
  }
  if (info.st_uid != ::geteuid()) {
    return WithAdvice(absl::PermissionDeniedError(absl::StrCat(
                          home.string(), " belongs to another user (", info.st_uid, ")")),
                      "set VIBE_HOME to a folder of your own");
  }
  if ((info.st_mode & 077) != 0 && ::chmod(home.c_str(), 0700) != 0) {
    return ErrnoError(errno, absl::StrCat("make ", home.string(), " private"));
  }
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> LockHome(const fs::path& home) {
  const fs::path path = home / kLockName;
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) {
    return ErrnoError(errno, path.string());
  }
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) {
      return ErrnoError(errno, path.string());
    }
    const absl::StatusOr<std::string> pid = ReadFile(path, 64);
    return absl::AlreadyExistsError(
        absl::StrCat("vibed runs already for ", home.string(),
                     pid.ok() && !pid->empty()
                         ? absl::StrCat(" (process ", absl::StripAsciiWhitespace(*pid), ")")
                         : ""));
  }
  const std::string pid = absl::StrCat(::getpid(), "\n");
  if (::ftruncate(fd.get(), 0) != 0 ||
      ::pwrite(fd.get(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    return ErrnoError(errno, path.string());
  }
  return fd;
}

}  // namespace vibe::host
