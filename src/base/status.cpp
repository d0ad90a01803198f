#include "base/status.h"

#include <array>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace vibe {
namespace {

constexpr char kReasonUrl[] = "vibe.app/reason";
constexpr char kAdviceUrl[] = "vibe.app/advice";
constexpr char kServiceUrl[] = "vibe.app/service";
constexpr char kLogUrl[] = "vibe.app/log";

constexpr std::array<std::pair<Reason, absl::string_view>, 21> kReasons{{
    {Reason::kInvalidManifest, "INVALID_MANIFEST"},
    {Reason::kNotFound, "NOT_FOUND"},
    {Reason::kConflict, "CONFLICT"},
    {Reason::kImagePullFailed, "IMAGE_PULL_FAILED"},
    {Reason::kAlreadyOpen, "ALREADY_OPEN"},
    {Reason::kNotOpen, "NOT_OPEN"},
    {Reason::kAlreadyRunning, "ALREADY_RUNNING"},
    {Reason::kNotRunning, "NOT_RUNNING"},
    {Reason::kStartFailed, "START_FAILED"},
    {Reason::kMissingSecret, "MISSING_SECRET"},
    {Reason::kStillRunning, "STILL_RUNNING"},
    {Reason::kSaveInProgress, "SAVE_IN_PROGRESS"},
    {Reason::kSaveFailed, "SAVE_FAILED"},
    {Reason::kSnapshotMismatch, "SNAPSHOT_MISMATCH"},
    {Reason::kRestoreFailed, "RESTORE_FAILED"},
    {Reason::kDuplicateFailed, "DUPLICATE_FAILED"},
    {Reason::kInvalidPackage, "INVALID_PACKAGE"},
    {Reason::kSignatureInvalid, "SIGNATURE_INVALID"},
    {Reason::kTampered, "TAMPERED"},
    {Reason::kPortConflict, "PORT_CONFLICT"},
    {Reason::kDiskLow, "DISK_LOW"},
}};

absl::Status WithPayload(absl::Status status, absl::string_view url, absl::string_view value) {
  if (!status.ok() && !value.empty() && !status.GetPayload(url)) {
    status.SetPayload(url, absl::Cord(value));
  }
  return status;
}

std::string PayloadOf(const absl::Status& status, absl::string_view url) {
  const auto payload = status.GetPayload(url);
  return payload ? std::string(*payload) : std::string();
}

}  // namespace

absl::string_view ReasonName(Reason reason) {
  return kReasons[static_cast<size_t>(reason)].second;
}

std::optional<Reason> ReasonFromName(absl::string_view name) {
  for (const auto& [reason, reason_name] : kReasons) {
    if (reason_name == name) {
      return reason;
    }
  }
  return std::nullopt;
}

absl::Status Error(absl::StatusCode code, Reason reason, absl::string_view message) {
  return WithReason(absl::Status(code, message), reason);
}

absl::Status WithReason(absl::Status status, Reason reason) {
  return WithPayload(std::move(status), kReasonUrl, ReasonName(reason));
}

absl::Status WithAdvice(absl::Status status, absl::string_view advice) {
  return WithPayload(std::move(status), kAdviceUrl, advice);
}

absl::Status WithService(absl::Status status, absl::string_view service) {
  return WithPayload(std::move(status), kServiceUrl, service);
}

absl::Status WithLog(absl::Status status, const std::vector<std::string>& lines) {
  return WithPayload(std::move(status), kLogUrl, absl::StrJoin(lines, "\n"));
}

absl::Status AddAdvice(absl::Status status, absl::string_view advice) {
  const std::string first = AdviceOf(status);
  if (!status.ok()) {
    status.SetPayload(kAdviceUrl,
                      absl::Cord(absl::StrCat(first, first.empty() ? "" : "; ", advice)));
  }
  return status;
}

absl::Status Annotate(const absl::Status& status, absl::string_view context) {
  if (status.ok()) {
    return status;
  }
  absl::Status annotated(status.code(), absl::StrCat(context, ": ", status.message()));
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& payload) {
    annotated.SetPayload(url, payload);
  });
  return annotated;
}

std::optional<Reason> ReasonOf(const absl::Status& status) {
  return ReasonFromName(PayloadOf(status, kReasonUrl));
}

std::string AdviceOf(const absl::Status& status) {
  return PayloadOf(status, kAdviceUrl);
}

std::string ServiceOf(const absl::Status& status) {
  return PayloadOf(status, kServiceUrl);
}

std::vector<std::string> LogOf(const absl::Status& status) {
  const std::string log = PayloadOf(status, kLogUrl);
  if (log.empty()) {
    return {};
  }
  return absl::StrSplit(log, '\n');
}

absl::Status ErrnoError(int error, absl::string_view context) {
  return absl::ErrnoToStatus(error, context);
}

}  // namespace vibe
