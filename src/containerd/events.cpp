#include <atomic>
#include <optional>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "base/random.h"
#include "base/status.h"
#include "containerd/call.h"
#include "containerd/client.h"
#include "containerd/timestamps.h"
#include "github.com/containerd/containerd/api/events/task.pb.h"
#include "github.com/containerd/containerd/api/services/events/v1/events.grpc.pb.h"

namespace vibe::containerd {
namespace {

namespace events = ::containerd::services::events::v1;

constexpr char kExitTopic[] = "/tasks/exit";
constexpr char kExitType[] = "containerd.events.TaskExit";
constexpr char kMarkerType[] = "vibe.app/Subscribed";
constexpr char kMarkerNamespace[] = "vibe";
constexpr absl::Duration kMarkerInterval = absl::Milliseconds(20);

// containerd does not say when a subscription has begun: an event of our own is published until it
// comes back.
class Marker {
 public:
  explicit Marker(const Connection& connection)
      : topic_(absl::StrCat("/vibe/watch/", RandomHex(8))),
        thread_([this, &connection] { Publish(connection); }) {}
  ~Marker() {
    Stop();
    thread_.join();
  }

  const std::string& topic() const { return topic_; }
  void Stop() {
    if (!stopped_.exchange(true)) {
      stop_.Notify();
    }
  }

 private:
  void Publish(const Connection& connection) {
    const auto stub = events::Events::NewStub(connection.channel);
    events::PublishRequest request;
    request.set_topic(topic_);
    request.mutable_event()->set_type_url(kMarkerType);
    google::protobuf::Empty response;
    do {
      const absl::Status status = connection.Run(
          {.name = "events.Publish", .ns = kMarkerNamespace},
          [&](grpc::ClientContext* context) { return stub->Publish(context, request, &response); });
      if (!status.ok()) {
        return;  // the subscription ends for the same reason
      }
    } while (!stop_.WaitForNotificationWithTimeout(kMarkerInterval));
  }

  const std::string topic_;
  std::atomic<bool> stopped_ = false;
  absl::Notification stop_;
  std::thread thread_;
};

std::optional<TaskExit> ParseExit(const events::Envelope& envelope) {
  ::containerd::events::TaskExit exit;
  if (envelope.event().type_url() != kExitType || !exit.ParseFromString(envelope.event().value())) {
    return std::nullopt;
  }
  return TaskExit{.ns = envelope.namespace_(),
                  .container_id = exit.container_id(),
                  .exec_id = exit.id(),
                  .exit_code = exit.exit_status(),
                  .exited_at = TimeOf(exit.exited_at())};
}

}  // namespace

struct Client::Cancellation::State {
  absl::Mutex mutex;
  bool cancelled ABSL_GUARDED_BY(mutex) = false;
  grpc::ClientContext* context ABSL_GUARDED_BY(mutex) = nullptr;  // of the watch that runs now
};

Client::Cancellation::Cancellation() : state_(std::make_shared<State>()) {}
Client::Cancellation::~Cancellation() = default;

void Client::Cancellation::Cancel() {
  absl::MutexLock lock(&state_->mutex);
  state_->cancelled = true;
  if (state_->context != nullptr) {
    state_->context->TryCancel();
  }
}

absl::Status Client::WatchExits(Cancellation& cancellation,
                                const std::function<void()>& on_subscribed,
                                const std::function<void(const TaskExit&)>& on_exit) {
  VIBE_RETURN_IF_ERROR(impl_->AwaitService());
  const std::shared_ptr<Cancellation::State> state = cancellation.state_;
  grpc::ClientContext context;  // without a deadline: a watch has no end
  {
    absl::MutexLock lock(&state->mutex);
    if (state->cancelled) {
      return absl::CancelledError("watching for exits was cancelled");
    }
    state->context = &context;
  }
  const auto stub = events::Events::NewStub(impl_->channel);
  Marker marker(*impl_);
  events::SubscribeRequest request;
  request.add_filters(absl::StrCat("topic==\"", kExitTopic, "\""));
  request.add_filters(absl::StrCat("topic==\"", marker.topic(), "\""));
  const auto reader = stub->Subscribe(&context, request);
  bool subscribed = false;
  events::Envelope envelope;
  while (reader->Read(&envelope)) {
    if (envelope.topic() == marker.topic()) {
      marker.Stop();
      if (!std::exchange(subscribed, true)) {
        on_subscribed();
      }
    } else if (const auto exit = ParseExit(envelope)) {
      on_exit(*exit);
    }
  }
  const grpc::Status status = reader->Finish();
  marker.Stop();
  absl::MutexLock lock(&state->mutex);
  state->context = nullptr;
  if (state->cancelled) {
    return absl::CancelledError("watching for exits was cancelled");
  }
  return status.ok() ? absl::UnavailableError("containerd ended the stream of events")
                     : ToStatus(status, "events.Subscribe");
}

}  // namespace vibe::containerd
