// clang-format off
// usage: port-load serve PORT
//        port-load throughput ADDRESS PORT STREAMS SECONDS [up]   MB/s that arrive, of all streams together
//        port-load latency ADDRESS PORT ROUNDS                    µs of a round trip of 64 bytes: p50 and p99
//        port-load connects ADDRESS PORT AT_ONCE SECONDS          connections per second, a byte each way on each
//        port-load udp ADDRESS PORT ROUNDS                        µs of a datagram's round trip: p50 and p99
// clang-format on
// Each prints one line of numbers. An ADDRESS is one of IPv4.
#include "port_load.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

namespace port_load {

void Fail(const std::string& what) {
  std::fprintf(stderr, "port-load: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

void RaiseFileLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
}

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kBlock = 256 << 10;
constexpr int kMessage = 64;

int Connect(const sockaddr_in& target, int type = SOCK_STREAM) {
  const int fd = ::socket(AF_INET, type | SOCK_CLOEXEC, 0);
  if (fd < 0 || ::connect(fd, reinterpret_cast<const sockaddr*>(&target), sizeof target) != 0) {
    Fail("connect");
  }
  if (type == SOCK_STREAM) {
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  return fd;
}

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// ---- throughput

uint64_t TakeBytes(const sockaddr_in& target, const std::atomic<bool>& stop) {
  const int fd = Connect(target);
  std::vector<char> block(kBlock);
  uint64_t total = 0;
  ::send(fd, "d", 1, 0);
  while (!stop) {
    const ssize_t count = ::recv(fd, block.data(), block.size(), 0);
    if (count <= 0) {
      Fail("receive");
    }
    total += static_cast<uint64_t>(count);
  }
  ::close(fd);
  return total;
}

uint64_t GiveBytes(const sockaddr_in& target, const std::atomic<bool>& stop) {
  const int fd = Connect(target);
  const std::vector<char> block(kBlock, 'u');
  ::send(fd, "u", 1, 0);
  while (!stop) {
    if (::send(fd, block.data(), block.size(), 0) <= 0) {
      Fail("send");
    }
  }
  ::shutdown(fd, SHUT_WR);
  uint64_t total = 0;
  if (::recv(fd, &total, sizeof total, MSG_WAITALL) != sizeof total) {
    Fail("receive the count");
  }
  ::close(fd);
  return total;
}

void Throughput(const sockaddr_in& target, int streams, double seconds, bool up) {
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> total{0};
  std::vector<std::thread> threads;
  const Clock::time_point start = Clock::now();
  for (int i = 0; i < streams; ++i) {
    threads.emplace_back([&] { total += up ? GiveBytes(target, stop) : TakeBytes(target, stop); });
  }
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  stop = true;
  for (std::thread& thread : threads) {
    thread.join();
  }
  std::printf("%.1f\n", static_cast<double>(total) / SecondsSince(start) / 1e6);
}

// ---- latency

void Latency(const sockaddr_in& target, int rounds, int type) {
  const int fd = Connect(target, type);
  if (type == SOCK_STREAM) {
    ::send(fd, "e", 1, 0);
  }
  std::array<char, kMessage> message{};
  std::vector<double> times;
  for (int i = -rounds / 10; i < rounds; ++i) {  // a tenth to warm up
    const Clock::time_point start = Clock::now();
    if (::send(fd, message.data(), message.size(), 0) != kMessage ||
        ::recv(fd, message.data(), message.size(), MSG_WAITALL) != kMessage) {
      Fail("a round trip");
    }
    if (i >= 0) {
      times.push_back(SecondsSince(start) * 1e6);
    }
  }
  std::sort(times.begin(), times.end());
  std::printf("%.1f %.1f\n", times[times.size() / 2], times[times.size() * 99 / 100]);
}

// ---- connections per second

class Connector {
 public:
  explicit Connector(const sockaddr_in& target)
      : target_(target), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {}

  double Run(int at_once, double seconds) {
    for (int i = 0; i < at_once; ++i) {
      Begin();
    }
    const Clock::time_point start = Clock::now();
    uint64_t done = 0;
    std::array<epoll_event, 64> events{};
    while (SecondsSince(start) < seconds) {
      const int count = ::epoll_wait(epoll_, events.data(), events.size(), 5000);
      if (count == 0) {
        errno = ETIMEDOUT;
        Fail("connections");
      }
      for (int i = 0; i < count; ++i) {
        const epoll_event& event = events[static_cast<size_t>(i)];
        done += Go(event.data.fd, event.events) ? 1 : 0;
      }
    }
    return static_cast<double>(done) / SecondsSince(start);
  }

 private:
  void Begin() {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 ||
        (::connect(fd, reinterpret_cast<const sockaddr*>(&target_), sizeof target_) != 0 &&
         errno != EINPROGRESS)) {
      Fail("connect");
    }
    epoll_event event{};
    event.events = EPOLLOUT;
    event.data.fd = fd;
    ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  }

  // Whether it was the connection's end; then the next one is begun.
  bool Go(int fd, uint32_t what) {
    if ((what & EPOLLOUT) != 0) {
      if (::send(fd, "c", 1, MSG_NOSIGNAL) != 1) {
        Fail("a connection");
      }
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.fd = fd;
      ::epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event);
      return false;
    }
    std::array<char, 16> answer{};
    const ssize_t count = ::recv(fd, answer.data(), answer.size(), 0);
    if (count < 0) {
      Fail("an answer");
    }
    if (count > 0) {
      heard_[fd] += static_cast<size_t>(count);
      return false;
    }
    if (std::exchange(heard_[fd], 0) != 1) {
      errno = EPROTO;
      Fail("a connection that ended without its answer");
    }
    ::close(fd);
    Begin();
    return true;
  }

  const sockaddr_in target_;
  const int epoll_;
  std::unordered_map<int, size_t> heard_;  // bytes, by descriptor
};

[[noreturn]] void Usage() {
  std::fputs(
      "usage: port-load serve PORT | throughput ADDRESS PORT STREAMS SECONDS [up] | latency "
      "ADDRESS PORT ROUNDS |\n"
      "       connects ADDRESS PORT AT_ONCE SECONDS | udp ADDRESS PORT ROUNDS\n",
      stderr);
  std::exit(2);
}

int Main(const std::vector<std::string>& words) {
  RaiseFileLimit();
  if (words.size() == 2 && words[0] == "serve") {
    Serve(static_cast<uint16_t>(std::atoi(words[1].c_str())));
  }
  sockaddr_in target{};
  target.sin_family = AF_INET;
  if (words.size() < 4 || ::inet_pton(AF_INET, words[1].c_str(), &target.sin_addr) != 1) {
    Usage();
  }
  target.sin_port = htons(static_cast<uint16_t>(std::atoi(words[2].c_str())));
  const int number = std::atoi(words[3].c_str());
  const double seconds = words.size() > 4 ? std::atof(words[4].c_str()) : 0;
  if (words[0] == "throughput" && seconds > 0) {
    Throughput(target, number, seconds, words.size() > 5);
  } else if (words[0] == "latency" && number > 0) {
    Latency(target, number, SOCK_STREAM);
  } else if (words[0] == "udp" && number > 0) {
    Latency(target, number, SOCK_DGRAM);
  } else if (words[0] == "connects" && seconds > 0) {
    std::printf("%.0f\n", Connector(target).Run(number, seconds));
  } else {
    Usage();
  }
  return 0;
}

}  // namespace
}  // namespace port_load

int main(int argc, char** argv) {
  return port_load::Main(std::vector<std::string>(argv + 1, argv + argc));
}
