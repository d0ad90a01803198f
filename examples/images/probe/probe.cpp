// A container's payload for tests: one static program that does one plain thing.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

extern char** environ;

namespace {

constexpr char kUsage[] =
    "usage: probe serve PORT [TEXT]   answers every HTTP request: /env, /hostname, /read/FILE, "
    "else TEXT\n"
    "       probe sleep SECONDS       ends at SIGTERM with 0\n"
    "       probe stubborn SECONDS    as sleep, but takes no notice of SIGTERM\n"
    "       probe exit CODE [TEXT]    prints TEXT to stderr\n"
    "       probe env                 prints the environment\n"
    "       probe print COUNT         prints COUNT numbered lines, to stdout and stderr in turn\n"
    "       probe write FILE TEXT     writes and syncs; TEXT: - for what comes in\n"
    "       probe read FILE           prints the file\n"
    "       probe remove FILE         removes the file, and syncs its file system\n"
    "       probe bulk FILE MIB       writes MIB of bytes that nothing makes smaller, and syncs\n"
    "       probe fill MIB            fills so much memory, says \"filled\", and sleeps\n"
    "       probe clock               prints the seconds since 1970, with nine digits behind the "
    "point\n"
    "       probe connect HOST PORT   0 when a TCP connection is made within 2 s; HOST: address or "
    "/etc/hosts name\n";

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "probe: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

// Numbers come from a test's own hand; a wrong one is a usage error.
long Number(const char* text, long least, long most) {
  char* end = nullptr;
  const long number = std::strtol(text, &end, 10);
  if (end == text || *end != '\0' || number < least || number > most) {
    std::fprintf(stderr, "probe: %s is not a number from %ld to %ld\n", text, least, most);
    std::exit(2);
  }
  return number;
}

bool WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno != EINTR) {
      return false;
    }
    bytes.remove_prefix(count < 0 ? 0 : static_cast<size_t>(count));
  }
  return true;
}

bool ReadAll(int fd, std::string& content) {
  char buffer[64 * 1024];
  ssize_t count = 0;
  while ((count = ::read(fd, buffer, sizeof buffer)) != 0) {
    if (count < 0 && errno != EINTR) {
      break;
    }
    content.append(buffer, count < 0 ? 0 : static_cast<size_t>(count));
  }
  return count == 0;
}

bool ReadAll(const std::string& path, std::string& content) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return false;
  }
  const bool whole = ReadAll(fd, content);
  ::close(fd);
  return whole;
}

std::string Environment() {
  std::string text;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    text.append(*variable).append("\n");
  }
  return text;
}

// ---- serve -------------------------------------------------------------------------------------

// What the request's path asks for; false when there is no such file.
bool Answer(const std::string& path, const std::string& text, std::string& body) {
  constexpr std::string_view kRead = "/read/";
  if (path == "/env") {
    body = Environment();
  } else if (path == "/hostname") {
    char name[256] = {};
    ::gethostname(name, sizeof name - 1);
    body = std::string(name) + "\n";
  } else if (path.rfind(kRead, 0) == 0) {
    return ReadAll(path.substr(kRead.size() - 1), body);
  } else {
    body = text + "\n";
  }
  return true;
}

void ServeOne(int connection, const std::string& text) {
  std::string request;
  char buffer[4096];
  while (request.find("\r\n\r\n") == std::string::npos && request.size() < sizeof buffer) {
    pollfd readable{connection, POLLIN, 0};
    if (::poll(&readable, 1, 2000) != 1) {
      return;  // a port check connects and says nothing
    }
    const ssize_t count = ::read(connection, buffer, sizeof buffer);
    if (count <= 0) {
      return;
    }
    request.append(buffer, static_cast<size_t>(count));
  }
  const size_t start = request.find(' ') + 1;  // npos + 1 is 0
  const std::string path = request.substr(start, request.find(' ', start) - start);
  std::string body;
  const bool found = Answer(path, text, body);
  WriteAll(connection, std::string(found ? "HTTP/1.1 200 OK" : "HTTP/1.1 404 Not Found") +
                           "\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: " +
                           std::to_string(body.size()) + "\r\n\r\n" + body);
}

int Serve(long port, const std::string& text) {
  const int listener = ::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1, off = 0;
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(static_cast<uint16_t>(port));
  if (listener < 0 || ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      ::setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) != 0 ||
      ::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener, 128) != 0) {
    Fail("listen on port " + std::to_string(port));
  }
  std::printf("listening on port %ld\n", port);
  while (true) {
    const int connection = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection >= 0) {
      ServeOne(connection, text);
      ::close(connection);
    } else if (errno != EINTR && errno != ECONNABORTED) {
      Fail("accept");
    }
  }
}

// ---- connect -----------------------------------------------------------------------------------

// The address of a name in /etc/hosts; the text itself when it is not there.
std::string Lookup(const std::string& host) {
  std::string hosts;
  ReadAll("/etc/hosts", hosts);
  size_t start = 0;
  while (start < hosts.size()) {
    const size_t end = std::min(hosts.find('\n', start), hosts.size());
    std::string line = hosts.substr(start, end - start);
    char* rest = nullptr;
    const char* address = ::strtok_r(line.data(), " \t", &rest);
    for (const char* name = address; name != nullptr; name = ::strtok_r(nullptr, " \t", &rest)) {
      if (name != address && host == name) {
        return address;
      }
    }
    start = end + 1;
  }
  return host;
}

int Connect(const std::string& host, long port) {
  const std::string text = Lookup(host);
  sockaddr_storage address{};
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&address);
  socklen_t size = sizeof *v4;
  if (::inet_pton(AF_INET, text.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(static_cast<uint16_t>(port));
  } else if (::inet_pton(AF_INET6, text.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(static_cast<uint16_t>(port));
    size = sizeof *v6;
  } else {
    std::fprintf(stderr, "probe: %s is neither an address nor in /etc/hosts\n", host.c_str());
    return 1;
  }
  const int fd = ::socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), size) != 0) {
    pollfd writable{fd, POLLOUT, 0};
    socklen_t length = sizeof errno;
    int error = ETIMEDOUT;
    if (errno != EINPROGRESS) {
      Fail("connect to " + host);
    }
    if (::poll(&writable, 1, 2000) == 1) {
      ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    }
    if (error != 0) {
      errno = error;
      Fail("connect to " + host);
    }
  }
  std::printf("connected to %s port %ld\n", text.c_str(), port);
  return 0;
}

// ---- the rest ----------------------------------------------------------------------------------

int Sleep(long seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  while (std::chrono::steady_clock::now() < end) {
    ::usleep(100'000);
  }
  return 0;
}

int Print(long count) {
  for (long line = 1; line <= count; ++line) {
    std::fprintf(line % 2 == 1 ? stdout : stderr, "line %ld\n", line);
  }
  return 0;
}

int Write(const char* path, const char* given) {
  std::string text = given;
  if (text == "-") {
    text.clear();
    if (!ReadAll(STDIN_FILENO, text)) {
      Fail("read what comes in");
    }
  }
  const int fd = ::open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0 || !WriteAll(fd, text) || ::fsync(fd) != 0) {
    Fail(std::string("write ") + path);
  }
  return 0;
}

int Read(const char* path) {
  std::string content;
  if (!ReadAll(path, content)) {
    Fail(std::string("read ") + path);
  }
  return WriteAll(STDOUT_FILENO, content) ? 0 : 1;
}

constexpr long kMib = 1 << 20;
constexpr long kMostMib = 64 << 10;

// xorshift64*: neither a file system's compression nor page merging finds anything in it.
void Scramble(std::vector<uint64_t>& words, uint64_t& state) {
  for (uint64_t& word : words) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    word = state * 0x2545F4914F6CDD1DULL;
  }
}

int Bulk(const char* path, long mib) {
  const int fd = ::open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  std::vector<uint64_t> words(kMib / sizeof(uint64_t));
  uint64_t state = 88172645463325252ULL;
  for (long written = 0; fd >= 0 && written < mib; ++written) {
    Scramble(words, state);
    if (!WriteAll(fd, {reinterpret_cast<const char*>(words.data()), static_cast<size_t>(kMib)})) {
      Fail(std::string("write ") + path);
    }
  }
  if (fd < 0 || ::fsync(fd) != 0) {
    Fail(std::string("write ") + path);
  }
  return 0;
}

int Remove(const std::string& path) {
  const int directory = ::open(path.substr(0, path.rfind('/') + 1).c_str(), O_RDONLY | O_CLOEXEC);
  if (directory < 0 || ::unlink(path.c_str()) != 0 || ::syncfs(directory) != 0) {
    Fail("remove " + path);
  }
  return 0;
}

int Fill(long mib) {
  std::vector<std::vector<uint64_t>> memory;
  uint64_t state = 88172645463325252ULL;
  for (long filled = 0; filled < mib; ++filled) {
    Scramble(memory.emplace_back(kMib / sizeof(uint64_t)), state);
  }
  std::printf("filled\n");
  return Sleep(1'000'000);
}

int Clock() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  std::printf("%lld.%09ld\n", static_cast<long long>(now.tv_sec), now.tv_nsec);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  constexpr long kLong = 1'000'000;
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  std::signal(SIGPIPE, SIG_IGN);
  // Process 1 of a container is not ended by a signal that it does not handle.
  for (const int number : {SIGTERM, SIGINT}) {
    std::signal(
        number, mode == "stubborn" ? SIG_IGN : +[](int) { ::_exit(0); });
  }
  if (mode == "serve" && (argc == 3 || argc == 4)) {
    return Serve(Number(argv[2], 1, 65535), argc == 4 ? argv[3] : "hello");
  }
  if ((mode == "sleep" || mode == "stubborn") && argc == 3) {
    return Sleep(Number(argv[2], 0, kLong));
  }
  if (mode == "exit" && (argc == 3 || argc == 4)) {
    if (argc == 4) {
      std::fprintf(stderr, "%s\n", argv[3]);
    }
    return static_cast<int>(Number(argv[2], 0, 255));
  }
  if (mode == "env" && argc == 2) {
    return WriteAll(STDOUT_FILENO, Environment()) ? 0 : 1;
  }
  if (mode == "print" && argc == 3) {
    return Print(Number(argv[2], 0, 100 * kLong));
  }
  if (mode == "write" && argc == 4) {
    return Write(argv[2], argv[3]);
  }
  if (mode == "read" && argc == 3) {
    return Read(argv[2]);
  }
  if (mode == "remove" && argc == 3) {
    return Remove(argv[2]);
  }
  if (mode == "bulk" && argc == 4) {
    return Bulk(argv[2], Number(argv[3], 1, kMostMib));
  }
  if (mode == "fill" && argc == 3) {
    return Fill(Number(argv[2], 1, kMostMib));
  }
  if (mode == "clock" && argc == 2) {
    return Clock();
  }
  if (mode == "connect" && argc == 4) {
    return Connect(argv[2], Number(argv[3], 1, 65535));
  }
  std::fputs(kUsage, stderr);
  return 2;
}
