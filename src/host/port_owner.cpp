#include "host/port_owner.h"

#ifdef __linux__

#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

namespace vibe::host {
namespace {

namespace fs = std::filesystem;

// The states of sockets that nobody is connected to, in /proc/net/tcp and /proc/net/udp.
constexpr char kListen[] = "0A";  // TCP_LISTEN
constexpr char kBound[] = "07";   // TCP_CLOSE, which UDP uses for all of them

// "socket:[<inode>]", as the links in /proc/<pid>/fd read.
std::string FindSocket(uint16_t port, relay::Protocol protocol) {
  const bool tcp = protocol == relay::Protocol::kTcp;
  const std::string suffix = absl::StrFormat(":%04X", port);
  for (const char* table :
       {tcp ? "/proc/net/tcp" : "/proc/net/udp", tcp ? "/proc/net/tcp6" : "/proc/net/udp6"}) {
    std::ifstream file(table);
    for (std::string line; std::getline(file, line);) {
      // sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
      const std::vector<std::string> fields = absl::StrSplit(line, ' ', absl::SkipEmpty());
      if (fields.size() > 9 && absl::EndsWith(fields[1], suffix) &&
          fields[3] == (tcp ? kListen : kBound)) {
        return absl::StrCat("socket:[", fields[9], "]");
      }
    }
  }
  return "";
}

bool HoldsSocket(const fs::path& process, const std::string& socket) {
  std::error_code error;
  for (fs::directory_iterator it(process / "fd", error), end; !error && it != end;
       it.increment(error)) {
    std::array<char, 64> target{};
    const ssize_t size = ::readlink(it->path().c_str(), target.data(), target.size());
    if (size > 0 && absl::string_view(target.data(), static_cast<size_t>(size)) == socket) {
      return true;
    }
  }
  return false;
}

}  // namespace

std::string PortOwner(uint16_t port, relay::Protocol protocol) {
  const std::string socket = FindSocket(port, protocol);
  if (socket.empty()) {
    return "";
  }
  std::error_code error;
  for (fs::directory_iterator it("/proc", error), end; !error && it != end; it.increment(error)) {
    const std::string pid = it->path().filename().string();
    int number = 0;
    if (!absl::SimpleAtoi(pid, &number) || !HoldsSocket(it->path(), socket)) {
      continue;
    }
    std::ifstream file(it->path() / "comm");
    std::string name;
    std::getline(file, name);
    for (char& c : name) {
      c = absl::ascii_isprint(static_cast<unsigned char>(c)) ? c : '?';
    }
    return absl::StrCat(name, " (process ", pid, ")");
  }
  return "";
}

}  // namespace vibe::host

#else

namespace vibe::host {

std::string PortOwner(uint16_t, relay::Protocol) {
  return "";
}

}  // namespace vibe::host

#endif
