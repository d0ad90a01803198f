// A qemu, a vsock device or a guest that says what a test wants, on a unix socket.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "base/unix_socket.h"
#include "vm/qemu/stream.h"

namespace vibe::vm::qemu::testing {

inline constexpr char kGreeting[] = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\n";

inline absl::Time Soon() {
  return absl::Now() + absl::Seconds(5);
}

// Takes connections one after the other, each with its own script.
class Peer {
 public:
  using Script = std::function<void(const UniqueFd&)>;
  Peer(const std::filesystem::path& path, std::vector<Script> scripts)
      : listener_(ListenUnix(path).value()) {
    thread_ = std::thread([this, scripts = std::move(scripts)] {
      for (const Script& script : scripts) {
        const UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (!client.valid()) {
          return;
        }
        script(client);
      }
    });
  }
  ~Peer() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }

 private:
  const UniqueFd listener_;
  std::thread thread_;
};

inline void Say(const UniqueFd& fd, absl::string_view text) {
  EXPECT_TRUE(WriteBy(fd, text, Soon()).ok());
}

inline nlohmann::json Hear(const UniqueFd& fd) {
  const auto line = ReadLineBy(fd, 4096, Soon());
  return line.ok() ? nlohmann::json::parse(*line, nullptr, false) : nlohmann::json();
}

inline void Answer(const UniqueFd& fd, const nlohmann::json& answer) {
  nlohmann::json message = answer;
  message["id"] = Hear(fd)["id"];
  Say(fd, message.dump() + "\n");
}

inline void Greet(const UniqueFd& fd) {
  Say(fd, kGreeting);
  Answer(fd, {{"return", nlohmann::json::object()}});
}

// Says nothing and takes what comes, until the other side is gone.
inline void Listen(const UniqueFd& fd) {
  char buffer[4096];
  while (::read(fd.get(), buffer, sizeof buffer) > 0) {
  }
}

}  // namespace vibe::vm::qemu::testing
