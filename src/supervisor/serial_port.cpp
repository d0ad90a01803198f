#include "supervisor/serial_port.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "spdlog/spdlog.h"

namespace vibe::supervisor {
namespace {

constexpr absl::Duration kDeviceWait = absl::Seconds(5);
constexpr absl::Duration kDevicePoll = absl::Milliseconds(5);
constexpr size_t kBuffer = 64 << 10;
// No host is there: the port is readable all the time and says nothing.
constexpr int kAbsentMs = 20;
constexpr int kAnswerMs = 2000;
// Read as a frame's head, it announces more than HTTP/2 allows; and it is longer than the rest of a
// frame that was cut off, whose size is 16 KiB unless the host says otherwise.
constexpr char kNoHttp2 = '\xff';
constexpr size_t kNoHttp2Bytes = 32 << 10;

// What read(2) returned, or 0 at the end, or -1 when there is nothing now.
ssize_t Read(int fd, std::string& bytes) {
  bytes.resize(kBuffer);
  const ssize_t count = ::read(fd, bytes.data(), bytes.size());
  bytes.resize(count > 0 ? static_cast<size_t>(count) : 0);
  return count < 0 && errno != EAGAIN && errno != EINTR ? 0 : count;
}

// Takes what it wrote from the beginning; false when the other side is gone.
bool Write(int fd, std::string& bytes) {
  const ssize_t count = ::write(fd, bytes.data(), bytes.size());
  if (count > 0) {
    bytes.erase(0, static_cast<size_t>(count));
  }
  return count >= 0 || errno == EAGAIN || errno == EINTR;
}

// "/dev/vport1p1"; empty when there is none with that name.
std::string FindDevice(const std::string& name) {
  std::error_code error;
  for (const std::filesystem::directory_entry& port :
       std::filesystem::directory_iterator("/sys/class/virtio-ports", error)) {
    const absl::StatusOr<std::string> its_name = ReadFile(port.path() / "name", 4096);
    if (its_name.ok() && absl::StripAsciiWhitespace(*its_name) == name) {
      return absl::StrCat("/dev/", port.path().filename().string());
    }
  }
  return "";
}

}  // namespace

absl::StatusOr<std::unique_ptr<SerialPort>> SerialPort::Open(const std::string& name,
                                                             const std::string& secret) {
  const absl::Time deadline = absl::Now() + kDeviceWait;
  while (true) {
    const std::string device = FindDevice(name);
    UniqueFd port(
        device.empty() ? -1 : ::open(device.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
    if (port.valid()) {
      return std::make_unique<SerialPort>(std::move(port), secret);
    }
    if (absl::Now() >= deadline) {
      return device.empty() ? absl::NotFoundError(absl::StrCat(
                                  "the machine has no serial port with the name ", name))
                            : ErrnoError(errno, absl::StrCat("open ", device));
    }
    absl::SleepFor(kDevicePoll);
  }
}

SerialPort::SerialPort(UniqueFd port, const std::string& secret)
    : port_(std::move(port)), stop_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), greeting_(secret) {
  ::fcntl(port_.get(), F_SETFL, ::fcntl(port_.get(), F_GETFL) | O_NONBLOCK);
}

SerialPort::~SerialPort() {
  Close();
}

void SerialPort::Serve(std::function<void(UniqueFd)> sink) {
  sink_ = std::move(sink);
  thread_ = std::thread([this] { Run(); });
}

void SerialPort::Close() {
  if (thread_.joinable()) {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(stop_.get(), &one, sizeof one);
    thread_.join();
  }
}

SerialPort::Event SerialPort::AwaitHost() {
  std::string bytes;
  while (true) {
    pollfd polls[] = {{stop_.get(), POLLIN, 0}, {port_.get(), POLLIN, 0}};
    ::poll(polls, 2, -1);
    if (polls[0].revents != 0) {
      return Event::kClosed;
    }
    if (Read(port_.get(), bytes) <= 0) {
      ::poll(polls, 1, kAbsentMs);
    } else if (const auto end = greeting_.Find(bytes); end) {
      first_ = bytes.substr(*end);
      return Event::kGreeted;
    }
  }
}

// Without a host it does nothing. One that greets just now skips it.
void SerialPort::BreakStream() {
  std::string bytes(kNoHttp2Bytes, kNoHttp2);
  while (Write(port_.get(), bytes) && !bytes.empty()) {
    pollfd polls[] = {{stop_.get(), POLLIN, 0}, {port_.get(), POLLOUT, 0}};
    if (::poll(polls, 2, kAnswerMs) <= 0 || polls[0].revents != 0 ||
        (polls[1].revents & POLLHUP) != 0) {
      return;
    }
  }
}

// False when the host does not take it.
bool SerialPort::Answer() {
  std::string answer = absl::StrCat("OK ", greeting_.nonce(), "\n");
  while (Write(port_.get(), answer)) {
    if (answer.empty()) {
      return true;
    }
    pollfd polls[] = {{stop_.get(), POLLIN, 0}, {port_.get(), POLLOUT, 0}};
    if (::poll(polls, 2, kAnswerMs) <= 0 || polls[0].revents != 0) {
      return false;
    }
  }
  return false;
}

SerialPort::Event SerialPort::Carry(UniqueFd end) {
  std::string in = std::exchange(first_, ""), out;
  const auto events = [](bool read, bool write) {
    return static_cast<short>((read ? POLLIN : 0) | (write ? POLLOUT : 0));
  };
  while (true) {
    pollfd polls[] = {{stop_.get(), POLLIN, 0},
                      {port_.get(), events(in.empty(), !out.empty()), 0},
                      {end.get(), events(out.empty(), !in.empty()), 0}};
    ::poll(polls, 3, -1);
    if (polls[0].revents != 0) {
      return Event::kClosed;
    }
    if ((polls[1].revents & POLLIN) != 0 && in.empty()) {
      if (Read(port_.get(), in) == 0) {
        return Event::kEnded;
      }
      if (const auto greeted = greeting_.Find(in); greeted) {
        first_ = in.substr(*greeted);
        return Event::kGreeted;
      }
    } else if ((polls[1].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0) {
      return Event::kEnded;  // the host went away
    }
    if (!in.empty() && !Write(end.get(), in)) {
      return Event::kEnded;
    }
    if ((polls[2].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && out.empty() &&
        Read(end.get(), out) == 0) {
      return Event::kEnded;
    }
    if (!out.empty() && !Write(port_.get(), out)) {
      return Event::kEnded;
    }
  }
}

void SerialPort::Run() {
  Event event = Event::kEnded;
  while (event != Event::kClosed) {
    if (event == Event::kEnded) {
      BreakStream();
      event = AwaitHost();
      continue;
    }
    event = Event::kEnded;
    int ends[2];
    if (!Answer()) {
      continue;
    }
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
      spdlog::warn("cannot take a connection from the serial port: {}", std::strerror(errno));
      continue;
    }
    UniqueFd ours(ends[0]);
    sink_(UniqueFd(ends[1]));
    event = Carry(std::move(ours));
  }
}

}  // namespace vibe::supervisor
