#include "containerd/call.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "github.com/containerd/containerd/api/services/version/v1/version.grpc.pb.h"

namespace vibe::containerd {
namespace {

namespace version = ::containerd::services::version::v1;

constexpr size_t kMaxIdentifier = 128;
constexpr absl::Duration kRetryPause = absl::Milliseconds(50);
// No call is without an end; this one stands for "as long as it takes".
constexpr absl::Duration kLongest = absl::Hours(24 * 365);

// Another writer holds the ingest: containerd is there, and waiting is up to the caller.
bool IsLocked(const grpc::Status& status) {
  return absl::StrContains(status.error_message(), "locked");
}

// Repeats `send` until it answers or containerd stays away for kBridge. A call that waited longer
// than that for its answer (as for the end of a task) gets the whole time again.
grpc::Status Bridge(grpc::Channel& channel, const std::function<grpc::Status()>& send) {
  absl::Time give_up = absl::InfiniteFuture();
  while (true) {
    const absl::Time sent = absl::Now();
    grpc::Status status = send();
    if (status.error_code() != grpc::StatusCode::UNAVAILABLE || IsLocked(status)) {
      return status;
    }
    const absl::Time now = absl::Now();
    if (give_up == absl::InfiniteFuture() || now - sent > kBridge) {
      give_up = now + kBridge;
    }
    if (now + kRetryPause > give_up) {
      return status;
    }
    if (channel.GetState(true) == GRPC_CHANNEL_READY) {
      absl::SleepFor(kRetryPause);  // it is there and refuses
    } else {
      // Not a sleep: gRPC goes on connecting only while somebody waits for it.
      channel.WaitForConnected(ToDeadline(give_up));
    }
  }
}

}  // namespace

absl::Status CheckIdentifier(absl::string_view what, absl::string_view text) {
  const auto allowed = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
  };
  if (text.empty() || text.size() > kMaxIdentifier ||
      !std::all_of(text.begin(), text.end(), allowed)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a containerd ", what, " has 1 to ", kMaxIdentifier,
                     " letters, digits, '-', '_' or '.'; this one has not"));
  }
  return absl::OkStatus();
}

absl::Status ToStatus(const grpc::Status& status, absl::string_view call) {
  if (status.ok()) {
    return absl::OkStatus();
  }
  const std::string message = absl::StrCat("containerd ", call, ": ", status.error_message());
  if (absl::StrContains(status.error_message(), "no space left on device") ||
      absl::StrContains(status.error_message(), "disk quota exceeded")) {
    return WithAdvice(Error(absl::StatusCode::kResourceExhausted, Reason::kDiskLow, message),
                      "the machine's disk is full: remove snapshots with `vibe snapshot rm` or "
                      "projects with `vibe rm`. When not even that is possible, give the machine a "
                      "larger \"disk\" in machine.json and run `vibe machine restart`");
  }
  // What containerd says when it notices the end of the call's time before gRPC does.
  if (status.error_code() == grpc::StatusCode::UNKNOWN &&
      absl::StrContains(status.error_message(), "context deadline exceeded")) {
    return absl::DeadlineExceededError(message);
  }
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), message);
}

std::chrono::system_clock::time_point ToDeadline(absl::Time deadline) {
  // absl::Now() is late for up to two seconds after the clock was set, as after a resume, and so
  // are deadlines made from it: the time that is left is right.
  return std::chrono::system_clock::now() +
         absl::ToChronoNanoseconds(std::min(deadline - absl::Now(), kLongest));
}

absl::StatusOr<std::unique_ptr<grpc::ClientContext>> MakeContext(const Call& call,
                                                                 absl::Time deadline) {
  auto context = std::make_unique<grpc::ClientContext>();
  if (!call.ns.empty()) {
    VIBE_RETURN_IF_ERROR(CheckIdentifier("namespace", call.ns));
    context->AddMetadata("containerd-namespace", call.ns);
  }
  if (!call.lease.empty()) {
    VIBE_RETURN_IF_ERROR(CheckIdentifier("lease", call.lease));
    context->AddMetadata("containerd-lease", call.lease);
  }
  context->set_deadline(ToDeadline(deadline));
  return context;
}

absl::Status Connection::Run(const Call& call,
                             const std::function<grpc::Status(grpc::ClientContext*)>& send) const {
  const absl::Time deadline = absl::Now() + call.timeout;
  VIBE_RETURN_IF_ERROR(MakeContext(call, deadline).status());
  if (!call.repeatable) {
    VIBE_RETURN_IF_ERROR(AwaitService());
    VIBE_ASSIGN_OR_RETURN(const auto context, MakeContext(call, deadline));
    return ToStatus(send(context.get()), call.name);
  }
  const grpc::Status status = Bridge(*channel, [&] {
    const auto context = MakeContext(call, deadline);
    return send(context->get());
  });
  return ToStatus(status, call.name);
}

absl::Status Connection::AwaitService() const {
  const auto stub = version::Version::NewStub(channel);
  const grpc::Status status = Bridge(*channel, [&] {
    grpc::ClientContext context;
    context.set_deadline(ToDeadline(absl::Now() + kBridge));
    version::VersionResponse response;
    return stub->Version(&context, {}, &response);
  });
  return ToStatus(status, "version.Version");
}

}  // namespace vibe::containerd
