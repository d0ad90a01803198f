#include "cli/log_stream.h"

#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "cli/commands.h"
#include "cli/error_text.h"
#include "cli/signals.h"

namespace vibe::cli {
namespace {

constexpr size_t kFlushBytes = 64 << 10;

// Calls back when the reader of stdout goes away, so that `logs -f | head` ends even when no line
// comes.
class ReaderWatch {
 public:
  explicit ReaderWatch(std::function<void()> on_gone) {
    int fds[2];
    if (::pipe(fds) != 0) {
      return;  // the next line that is written will tell
    }
    wake_.reset(fds[0]);
    waker_.reset(fds[1]);
    thread_ = std::thread([this, gone = std::move(on_gone)] {
      while (true) {
        // With no event asked for, only the end of the pipe and errors are reported.
        pollfd waits[2] = {{wake_.get(), POLLIN, 0}, {STDOUT_FILENO, 0, 0}};
        if (::poll(waits, 2, -1) < 0 && errno == EINTR) {
          continue;
        }
        if (waits[0].revents == 0 && waits[1].revents != 0) {
          gone();
        }
        return;
      }
    });
  }
  ~ReaderWatch() {
    waker_.reset();
    if (thread_.joinable()) {
      thread_.join();
    }
  }
  ReaderWatch(const ReaderWatch&) = delete;
  ReaderWatch& operator=(const ReaderWatch&) = delete;

 private:
  UniqueFd wake_;
  UniqueFd waker_;
  std::thread thread_;
};

// Lines on their way to stdout: many at once while they come fast, each at once while they are
// followed.
class Output {
 public:
  explicit Output(const Session& session, bool follow) : session_(session), follow_(follow) {}

  // False when the reader is gone.
  absl::StatusOr<bool> Write(absl::string_view text) {
    session_.Write(text);
    pending_ += text.size();
    if (!follow_ && pending_ < kFlushBytes) {
      return true;
    }
    pending_ = 0;
    return FlushOutput();
  }

 private:
  const Session& session_;
  const bool follow_;
  size_t pending_ = 0;
};

// What ended the transfer when it was not vibed.
enum class Ending { kNone, kInterrupted, kReaderGone };

absl::Status Transfer(Session& session, ApiClient& client, const LogQuery& query,
                      const std::function<absl::StatusOr<LineRenderer>(ApiClient&)>& prepare,
                      std::atomic<Ending>& ending) {
  VIBE_RETURN_IF_ERROR(session.Ready([&] { return ending != Ending::kNone; }));
  VIBE_ASSIGN_OR_RETURN(const LineRenderer render, prepare(client));
  ApiRequest request;
  request.target = query.target;
  // Nothing may be written for days.
  request.idle = query.follow ? absl::InfiniteDuration() : absl::Seconds(60);
  Output output(session, query.follow);
  Json lines = Json::array();
  VIBE_RETURN_IF_ERROR(client.Stream(request, [&](const Json& record) -> absl::Status {
    if (session.json() && !query.follow) {
      lines.push_back(record);
      return absl::OkStatus();
    }
    VIBE_ASSIGN_OR_RETURN(
        const bool reader,
        output.Write(session.json() ? absl::StrCat(Dump(record), "\n") : render(record)));
    if (!reader) {
      ending = Ending::kReaderGone;
      return absl::CancelledError("nobody reads the output");
    }
    return absl::OkStatus();
  }));
  if (session.json() && !query.follow) {
    session.Print("", Json{{"lines", std::move(lines)}});
  }
  return absl::OkStatus();
}

}  // namespace

std::string LogParameters(uint32_t tail, bool follow) {
  return absl::StrCat("tail=", tail, "&follow=", follow ? "true" : "false");
}

absl::StatusOr<int> ShowLog(
    Session& session, const LogQuery& query,
    const std::function<absl::StatusOr<LineRenderer>(ApiClient&)>& prepare) {
  const std::unique_ptr<ApiClient> client = session.NewClient();
  std::atomic<Ending> ending = Ending::kNone;
  const auto end = [&](Ending why) {
    ending = why;
    client->Cancel();
  };
  absl::Status status;
  {
    const SignalWatch signals({SIGINT, SIGTERM, SIGHUP}, [&](int) { end(Ending::kInterrupted); });
    const ReaderWatch reader([&] { end(Ending::kReaderGone); });
    status = Transfer(session, *client, query, prepare, ending);
  }
  if (ending == Ending::kReaderGone) {
    return kExitOk;
  }
  if (ending == Ending::kInterrupted && query.follow) {
    return kExitInterrupted;  // the way to end it: nothing went wrong
  }
  VIBE_RETURN_IF_ERROR(status);
  return kExitOk;
}

}  // namespace vibe::cli
