#include "init/guest/vsock_call.h"

#include <linux/netlink.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "rpc/ports.h"

namespace vibe::init::guest {
namespace {

constexpr unsigned kKernelsGroup = 1;  // udev's own messages are in another
constexpr size_t kMaxEventBytes = 8 << 10;
constexpr int kMaxCalls = 15;  // of two seconds, after which the kernel gives a call up
constexpr absl::string_view kVsockAlias = "MODALIAS=virtio:d00000013v";

UniqueFd CallHost() {
  UniqueFd call(::socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_vm host{};
  host.svm_family = AF_VSOCK;
  host.svm_cid = VMADDR_CID_HOST;
  host.svm_port = rpc::kReadyPort;
  // Goes on by itself.
  (void)::connect(call.get(), reinterpret_cast<const sockaddr*>(&host), sizeof host);
  return call;
}

}  // namespace

bool SaysVsockIsThere(absl::string_view uevent) {
  bool bound = false, vsock = false;
  for (const absl::string_view field : absl::StrSplit(uevent, '\0')) {
    bound = bound || field == "ACTION=bind";
    vsock = vsock || absl::StartsWith(field, kVsockAlias);
  }
  return bound && vsock;
}

void VsockCall::Open() {
  events_.reset(
      ::socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = kKernelsGroup;
  if (::bind(events_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    events_.reset();
  }
}

void VsockCall::Pump() {
  std::vector<char> buffer(kMaxEventBytes);
  while (events_.valid()) {
    sockaddr_nl sender{};
    socklen_t size = sizeof sender;
    const ssize_t count = ::recvfrom(events_.get(), buffer.data(), buffer.size(), 0,
                                     reinterpret_cast<sockaddr*>(&sender), &size);
    if (count < 0) {
      break;
    }
    if (sender.nl_pid == 0 &&  // the kernel's
        SaysVsockIsThere(absl::string_view(buffer.data(), static_cast<size_t>(count)))) {
      call_ = CallHost();
      calls_ = 1;
    }
  }
  pollfd state{call_.get(), 0, 0};
  if (!call_.valid() || ::poll(&state, 1, 0) <= 0) {
    return;
  }
  int error = 0;
  socklen_t size = sizeof error;
  ::getsockopt(call_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  // Anything else says that the host has heard, or does not listen.
  const bool again = error == ETIMEDOUT && calls_ < kMaxCalls;
  call_.reset();
  if (again) {
    call_ = CallHost();
    ++calls_;
  }
}

}  // namespace vibe::init::guest
