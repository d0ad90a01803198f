#include "rpc/status.h"

#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace vibe::rpc {
namespace {

constexpr char kDomain[] = "vibe.app";
// gRPC refuses metadata over 8 KiB by default, and the details travel as metadata.
constexpr size_t kMaxLogBytes = 4 << 10;

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) {
    return grpc::Status::OK;
  }
  const auto code = static_cast<grpc::StatusCode>(status.code());
  const std::string message(status.message());
  google::rpc::ErrorInfo info;
  info.set_domain(kDomain);
  if (const auto reason = ReasonOf(status)) {
    info.set_reason(std::string(ReasonName(*reason)));
  }
  const auto add = [&](const char* key, std::string value) {
    if (!value.empty()) {
      (*info.mutable_metadata())[key] = std::move(value);
    }
  };
  add("advice", AdviceOf(status));
  add("service", ServiceOf(status));
  std::string log = absl::StrJoin(LogOf(status), "\n");
  if (log.size() > kMaxLogBytes) {
    log.erase(0, log.size() - kMaxLogBytes);
    // An incomplete UTF-8 sequence at the cut would make the message invalid.
    while (!log.empty() && (static_cast<unsigned char>(log[0]) & 0xc0) == 0x80) {
      log.erase(0, 1);
    }
  }
  add("log", log);
  google::rpc::Status details;
  details.set_code(static_cast<int>(code));
  details.set_message(message);
  details.add_details()->PackFrom(info);
  return {code, message, details.SerializeAsString()};
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) {
    return absl::OkStatus();
  }
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) {
    return result;
  }
  for (const auto& any : details.details()) {
    google::rpc::ErrorInfo info;
    if (!any.UnpackTo(&info) || info.domain() != kDomain) {
      continue;
    }
    if (const auto reason = ReasonFromName(info.reason())) {
      result = WithReason(std::move(result), *reason);
    }
    const auto get = [&](const char* key) -> std::string {
      const auto found = info.metadata().find(key);
      return found == info.metadata().end() ? std::string() : found->second;
    };
    result = WithAdvice(std::move(result), get("advice"));
    result = WithService(std::move(result), get("service"));
    if (const std::string log = get("log"); !log.empty()) {
      const std::vector<std::string> lines = absl::StrSplit(log, '\n');
      result = WithLog(std::move(result), lines);
    }
  }
  return result;
}

}  // namespace vibe::rpc
