#include "base/unix_socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace vibe {
namespace {

absl::StatusOr<sockaddr_un> Address(const std::filesystem::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.native().size() >= sizeof address.sun_path) {
    return WithAdvice(absl::InvalidArgumentError(absl::StrCat(
                          "the socket path ", path.string(), " is ", path.native().size(),
                          " bytes long, over the limit of ", sizeof address.sun_path - 1)),
                      "set VIBE_HOME to a shorter path");
  }
  std::memcpy(address.sun_path, path.c_str(), path.native().size());
  return address;
}

absl::StatusOr<UniqueFd> Socket() {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM, 0));
  if (!fd.valid()) {
    return ErrnoError(errno, "socket");
  }
  ::fcntl(fd.get(), F_SETFD, FD_CLOEXEC);
  return fd;
}

}  // namespace

absl::StatusOr<UniqueFd> ListenUnix(const std::filesystem::path& path) {
  VIBE_ASSIGN_OR_RETURN(const sockaddr_un address, Address(path));
  if (ConnectUnix(path).ok()) {
    return absl::AlreadyExistsError(absl::StrCat("another process listens on ", path.string()));
  }
  struct stat info {};
  if (::lstat(path.c_str(), &info) == 0 && !S_ISSOCK(info.st_mode)) {
    return absl::AlreadyExistsError(absl::StrCat(path.string(), " exists and is not a socket"));
  }
  ::unlink(path.c_str());
  VIBE_ASSIGN_OR_RETURN(UniqueFd fd, Socket());
  // No connection can be made between bind and chmod: nothing listens yet.
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::chmod(path.c_str(), 0600) != 0 || ::listen(fd.get(), 128) != 0) {
    return ErrnoError(errno, absl::StrCat("listen on ", path.string()));
  }
  return fd;
}

absl::StatusOr<UniqueFd> ConnectUnix(const std::filesystem::path& path) {
  VIBE_ASSIGN_OR_RETURN(const sockaddr_un address, Address(path));
  VIBE_ASSIGN_OR_RETURN(UniqueFd fd, Socket());
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int error = errno;
    if (error == ENOENT || error == ECONNREFUSED) {
      return absl::UnavailableError(absl::StrCat("nobody listens on ", path.string()));
    }
    return ErrnoError(error, absl::StrCat("connect to ", path.string()));
  }
  return fd;
}

}  // namespace vibe
