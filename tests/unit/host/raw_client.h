// A client of the API that sends exactly what a test says, and takes answers apart. One request per
// connection.
#pragma once

#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/unix_socket.h"

namespace vibe::host {

struct RawAnswer {
  int status = 0;
  std::string head;
  std::string body;  // without chunk framing

  nlohmann::json Json() const { return nlohmann::json::parse(body, nullptr, false); }
  // The lines of a streamed answer, without heartbeats.
  std::vector<nlohmann::json> Lines() const {
    std::vector<nlohmann::json> lines;
    for (size_t begin = 0; begin < body.size();) {
      const size_t end = body.find('\n', begin);
      if (end > begin) {
        lines.push_back(nlohmann::json::parse(body.substr(begin, end - begin), nullptr, false));
      }
      begin = end + 1;
    }
    return lines;
  }
};

class RawClient {
 public:
  explicit RawClient(const std::filesystem::path& socket) {
    auto fd = ConnectUnix(socket);
    if (fd.ok()) {
      fd_ = *std::move(fd);
      const timeval limit{20, 0};
      ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    }
  }

  void Send(const std::string& bytes) const {
    size_t sent = 0;
    while (sent < bytes.size()) {
      const ssize_t count =
          ::send(fd_.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (count <= 0) {
        return;  // refused half-way: the answer says why
      }
      sent += static_cast<size_t>(count);
    }
  }
  void SendRequest(const std::string& method, const std::string& target,
                   const std::string& body = "",
                   const std::string& headers = "Host: vibed\r\nConnection: close\r\n") const {
    Send(method + " " + target + " HTTP/1.1\r\n" + headers +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  }
  std::string ReadUntil(const std::string& end) const {
    std::string text;
    char c = 0;
    while (text.size() < end.size() ||
           text.compare(text.size() - end.size(), end.size(), end) != 0) {
      if (::read(fd_.get(), &c, 1) != 1) {
        break;
      }
      text.push_back(c);
    }
    return text;
  }
  std::string Read(size_t size) const {
    std::string text(size, '\0');
    size_t have = 0;
    while (have < size) {
      const ssize_t count = ::read(fd_.get(), text.data() + have, size - have);
      if (count <= 0) {
        break;
      }
      have += static_cast<size_t>(count);
    }
    text.resize(have);
    return text;
  }
  RawAnswer ReadAnswer() const {
    RawAnswer answer;
    answer.head = ReadUntil("\r\n\r\n");
    answer.status = answer.head.size() > 12 ? std::atoi(answer.head.c_str() + 9) : 0;
    if (answer.head.find("Transfer-Encoding: chunked") != std::string::npos) {
      while (true) {
        const size_t size = std::strtoul(ReadUntil("\r\n").c_str(), nullptr, 16);
        answer.body += Read(size);
        Read(2);
        if (size == 0) {
          break;
        }
      }
    } else if (const size_t at = answer.head.find("Content-Length: "); at != std::string::npos) {
      answer.body = Read(std::strtoul(answer.head.c_str() + at + 16, nullptr, 10));
    }
    return answer;
  }
  void Close() { fd_.reset(); }
  int fd() const { return fd_.get(); }

 private:
  UniqueFd fd_;
};

inline RawAnswer Ask(const std::filesystem::path& socket, const std::string& method,
                     const std::string& target, const std::string& body = "") {
  const RawClient client(socket);
  client.SendRequest(method, target, body);
  return client.ReadAnswer();
}

}  // namespace vibe::host
