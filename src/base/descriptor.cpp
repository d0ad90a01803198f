#include "base/descriptor.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <cstring>

namespace vibe {
namespace {

constexpr size_t kRoom = 4;  // descriptors; we send one

#ifdef MSG_NOSIGNAL
constexpr int kSendFlags = MSG_DONTWAIT | MSG_NOSIGNAL;
#else
constexpr int kSendFlags = MSG_DONTWAIT;  // the programs ignore SIGPIPE
#endif

}  // namespace

ssize_t SendWithDescriptor(int socket, absl::string_view bytes, int fd) {
  iovec data{const_cast<char*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  return ::sendmsg(socket, &message, kSendFlags);
}

ssize_t ReceiveWithDescriptor(int socket, char* buffer, size_t size, UniqueFd& fd) {
  iovec data{buffer, size};
  alignas(cmsghdr) char control[CMSG_SPACE(kRoom * sizeof(int))];
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t count = ::recvmsg(socket, &message, MSG_DONTWAIT);
  if (count < 0) {
    return count;
  }
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    const size_t bytes = header->cmsg_len - CMSG_LEN(0);
    for (size_t offset = 0; offset + sizeof(int) <= bytes; offset += sizeof(int)) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(header) + offset, sizeof number);
      UniqueFd received(number);
      ::fcntl(number, F_SETFD, FD_CLOEXEC);
      if (!fd.valid()) {
        fd = std::move(received);
      }
    }
  }
  return count;
}

}  // namespace vibe
