#include "supervisor/hooks.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "base/utf8.h"
#include "logs/secret_mask.h"
#include "supervisor/exec.h"

namespace vibe::supervisor {
namespace {

constexpr absl::Duration kPoll = absl::Milliseconds(50);
constexpr size_t kKeptOutput = 16 << 10;
constexpr size_t kMaxLines = 20;
constexpr uint64_t kMaxSecretsFile = 64 << 20;

// The end of what a program wrote, however much that was.
class Tail {
 public:
  void Add(absl::string_view bytes) {
    absl::StrAppend(&text_, bytes);
    if (text_.size() > 2 * kKeptOutput) {
      text_.erase(0, text_.size() - kKeptOutput);
    }
  }

  // Masked before it is cut into lines and shortened, which could part a secret.
  std::vector<std::string> Lines(const logs::SecretMask& mask) const {
    std::string masked;
    mask.Apply(text_, /*last=*/true, masked);
    const std::string whole = ValidUtf8(masked);
    std::vector<std::string> lines = absl::StrSplit(whole, '\n', absl::SkipEmpty());
    if (lines.size() > kMaxLines) {
      lines.erase(lines.begin(), lines.end() - static_cast<std::ptrdiff_t>(kMaxLines));
    }
    return lines;
  }

 private:
  std::string text_;
};

// docs/formats/logs.md: one value after another, each ended by a zero byte.
logs::SecretMask MaskOf(const HookPlace& place, const PlannedService& service) {
  const auto text =
      ReadFile(place.run_directory / absl::StrCat(service.name, ".secrets"), kMaxSecretsFile);
  return text.ok() ? logs::SecretMask(
                         std::vector<std::string>(absl::StrSplit(*text, '\0', absl::SkipEmpty())))
                   : logs::SecretMask();
}

}  // namespace

const char* HookName(HookKind kind) {
  return kind == HookKind::kPreSave ? "preSave" : "postRestore";
}

absl::Status RunHook(const HookPlace& place, const Plan& plan, const PlannedService& service,
                     HookKind kind, absl::Duration limit, const std::function<bool()>& cancelled) {
  const std::optional<manifest::Hook>& hook =
      kind == HookKind::kPreSave ? service.hooks.pre_save : service.hooks.post_restore;
  if (!hook) {
    return absl::OkStatus();
  }
  const absl::Duration timeout = std::min(limit, absl::Milliseconds(hook->timeout_ms));
  v1::ExecRequest::Start start;
  start.mutable_command()->Add(hook->command.begin(), hook->command.end());
  ExecSession session({.containerd = place.containerd,
                       .ns = plan.containerd_namespace,
                       .container_id = service.container_id,
                       .directory = place.exec_directory},
                      std::move(start));
  v1::ExecRequest no_input;
  no_input.set_close_stdin(true);
  session.Put(std::move(no_input));

  std::atomic<bool> late = false, unwanted = false;
  absl::Notification ended;
  std::thread watch([&, deadline = absl::Now() + timeout] {
    while (!ended.WaitForNotificationWithTimeout(kPoll)) {
      unwanted = cancelled();
      late = absl::Now() >= deadline;
      if (unwanted || late) {
        session.Abandon();
        return;
      }
    }
  });
  Tail tail;
  const absl::StatusOr<uint32_t> code = session.Run(
      [&](ExecSession::Stream, absl::string_view bytes) {
        tail.Add(bytes);
        return absl::OkStatus();
      },
      [] {});
  ended.Notify();
  watch.join();

  if (code.ok() && *code == 0) {
    return absl::OkStatus();
  }
  if (unwanted) {
    return absl::CancelledError("it was cancelled");
  }
  std::string how;
  if (code.ok()) {
    how = *code > 128 ? absl::StrCat("was ended by signal ", *code - 128)
                      : absl::StrCat("ended with exit code ", *code);
  } else if (late) {
    how = absl::StrCat("did not end within ", absl::FormatDuration(timeout), " and was killed");
  } else {
    how = absl::StrCat("cannot be run: ", code.status().message());
  }
  return WithLog(
      WithService(absl::FailedPreconditionError(absl::StrCat(
                      "the ", HookName(kind), " hook of service ", service.name, " ", how)),
                  service.name),
      tail.Lines(MaskOf(place, service)));
}

}  // namespace vibe::supervisor
