// Errors of the product: an absl::Status that also carries a stable reason, what the user can do,
// which service failed and its last log lines. The details travel as status payloads, so they
// survive any layer that copies or annotates the status, and src/rpc carries them over the wire.
//
// All functions are pure and thread-safe.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vibe {

// The stable reasons of the contract (proto/vibe/v1/supervisor.proto). Names never change.
enum class Reason {
  kInvalidManifest,
  kNotFound,
  kConflict,
  kImagePullFailed,
  kAlreadyOpen,
  kNotOpen,
  kAlreadyRunning,
  kNotRunning,
  kStartFailed,
  kMissingSecret,
  kStillRunning,
  kSaveInProgress,
  kSaveFailed,
  kSnapshotMismatch,
  kRestoreFailed,
  kDuplicateFailed,
  kInvalidPackage,
  kSignatureInvalid,
  kTampered,
  kPortConflict,
  kDiskLow,
};

// "IMAGE_PULL_FAILED" for Reason::kImagePullFailed, and back.
absl::string_view ReasonName(Reason reason);
std::optional<Reason> ReasonFromName(absl::string_view name);

absl::Status Error(absl::StatusCode code, Reason reason, absl::string_view message);

// Each returns `status` with one detail added; an ok status stays ok. A detail that is already
// there is kept: the layer nearest to the fault knows best.
absl::Status WithReason(absl::Status status, Reason reason);
absl::Status WithAdvice(absl::Status status, absl::string_view advice);
absl::Status WithService(absl::Status status, absl::string_view service);
absl::Status WithLog(absl::Status status, const std::vector<std::string>& lines);

// `status` with `advice` behind that which is there already; ok stays ok.
absl::Status AddAdvice(absl::Status status, absl::string_view advice);

// The same status with "context: " before its message. Payloads are kept; ok stays ok.
absl::Status Annotate(const absl::Status& status, absl::string_view context);

std::optional<Reason> ReasonOf(const absl::Status& status);
std::string AdviceOf(const absl::Status& status);   // empty when there is none
std::string ServiceOf(const absl::Status& status);  // empty when there is none
std::vector<std::string> LogOf(const absl::Status& status);

// A status from errno, as "context: strerror".
absl::Status ErrnoError(int error, absl::string_view context);

}  // namespace vibe

#define VIBE_CONCAT_INNER(a, b) a##b
#define VIBE_CONCAT(a, b) VIBE_CONCAT_INNER(a, b)

#define VIBE_RETURN_IF_ERROR(expr)                              \
  do {                                                          \
    if (absl::Status vibe_status = (expr); !vibe_status.ok()) { \
      return vibe_status;                                       \
    }                                                           \
  } while (false)

#define VIBE_ASSIGN_OR_RETURN(lhs, expr) \
  VIBE_ASSIGN_OR_RETURN_IMPL(VIBE_CONCAT(vibe_or_, __LINE__), lhs, expr)
#define VIBE_ASSIGN_OR_RETURN_IMPL(var, lhs, expr) \
  auto var = (expr);                               \
  if (!var.ok()) {                                 \
    return var.status();                           \
  }                                                \
  lhs = std::move(var).value()
