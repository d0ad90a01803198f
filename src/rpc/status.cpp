#include "rpc/status.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "base/utf8.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace vibe::rpc {
namespace {

constexpr char kDomain[] = "vibe.app";
// gRPC refuses metadata over 8 KiB by default, and all of this travels as metadata: the message
// with three bytes for each that is not printable ASCII, the details in base64.
constexpr size_t kMaxMessageBytes = 2 << 10;
constexpr size_t kMaxValueBytes = 512;
constexpr size_t kMaxLogBytes = 2 << 10;
constexpr absl::string_view kEllipsis = "...";

bool StartsCharacter(char byte) {
  return (static_cast<unsigned char>(byte) & 0xc0) != 0x80;
}

// The start of the text, cut so that it takes at most `max_bytes` on the wire.
std::string Start(absl::string_view text, size_t max_bytes) {
  const std::string valid = ValidUtf8(text);  // a field of a message has to be
  size_t cut = 0;                             // after a whole character, with room for the ellipsis
  size_t wire_bytes = 0;
  for (size_t i = 0; i < valid.size(); ++i) {
    if (StartsCharacter(valid[i]) && wire_bytes + kEllipsis.size() <= max_bytes) {
      cut = i;
    }
    wire_bytes +=
        absl::ascii_isprint(static_cast<unsigned char>(valid[i])) && valid[i] != '%' ? 1 : 3;
    if (wire_bytes > max_bytes) {
      return absl::StrCat(valid.substr(0, cut), kEllipsis);
    }
  }
  return valid;
}

// The end of the text, without a part of a character.
std::string End(absl::string_view text, size_t max_bytes) {
  // What is not valid takes three times its room: no need to look at what is cut off anyway.
  std::string valid = ValidUtf8(text.substr(text.size() - std::min(text.size(), max_bytes + 3)));
  size_t cut = valid.size() - std::min(valid.size(), max_bytes);
  while (cut < valid.size() && !StartsCharacter(valid[cut])) {
    ++cut;
  }
  return valid.substr(cut);
}

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) {
    return grpc::Status::OK;
  }
  const auto code = static_cast<grpc::StatusCode>(status.code());
  const std::string message = Start(status.message(), kMaxMessageBytes);
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
  add("advice", Start(AdviceOf(status), kMaxValueBytes));
  add("service", Start(ServiceOf(status), kMaxValueBytes));
  add("log", End(absl::StrJoin(LogOf(status), "\n"), kMaxLogBytes));
  google::rpc::Status details;
  details.set_code(static_cast<int>(code));  // the message is there already, and room is short
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
