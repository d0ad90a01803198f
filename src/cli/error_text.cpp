#include "cli/error_text.h"

#include <vector>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "cli/text.h"

namespace vibe::cli {
namespace {

constexpr char kInterruptedUrl[] = "vibe.app/interrupted";
constexpr size_t kMaxLogLines = 50;

absl::StatusCode CodeFromName(absl::string_view name) {
  for (int code = 1; code <= static_cast<int>(absl::StatusCode::kUnauthenticated); ++code) {
    if (absl::StatusCodeToString(static_cast<absl::StatusCode>(code)) == name) {
      return static_cast<absl::StatusCode>(code);
    }
  }
  return absl::StatusCode::kUnknown;
}

// The whole first paragraph of an error. A message of several lines keeps them, indented.
std::string Sentence(const absl::Status& error) {
  std::string message(error.message().empty() ? "something failed without saying why"
                                              : error.message());
  if (const std::string service = ServiceOf(error);
      !service.empty() && !absl::StrContains(message, service)) {
    message = absl::StrCat("service ", service, ": ", message);
  }
  const std::string advice = AdviceOf(error);
  std::string out;
  const std::vector<std::string> lines =
      absl::StrSplit(EscapeLines(message), '\n', absl::SkipWhitespace());
  for (size_t i = 0; i < lines.size(); ++i) {
    absl::StrAppend(&out, i == 0 ? "" : "\n  ", lines[i]);
  }
  if (advice.empty()) {
    return out;
  }
  return absl::StrCat(out, lines.size() > 1 ? "\n  " : "; ", Escape(advice));
}

}  // namespace

std::string RenderError(const absl::Status& error, bool color) {
  std::string out = absl::StrCat(Paint("error:", Color::kRed, color), " ", Sentence(error), "\n");
  const std::vector<std::string> log = LogOf(error);
  const size_t first = log.size() > kMaxLogLines ? log.size() - kMaxLogLines : 0;
  for (size_t i = first; i < log.size(); ++i) {
    absl::StrAppend(&out, "    ", Paint(Escape(log[i]), Color::kDim, color), "\n");
  }
  return out;
}

Json ErrorToJson(const absl::Status& error) {
  Json json;
  json["code"] = absl::StatusCodeToString(error.code());
  json["message"] = std::string(error.message());
  if (const auto reason = ReasonOf(error)) {
    json["reason"] = std::string(ReasonName(*reason));
  }
  if (const std::string advice = AdviceOf(error); !advice.empty()) {
    json["advice"] = advice;
  }
  if (const std::string service = ServiceOf(error); !service.empty()) {
    json["service"] = service;
  }
  if (const std::vector<std::string> log = LogOf(error); !log.empty()) {
    json["log"] = log;
  }
  return json;
}

absl::Status ErrorFromJson(const Json& json) {
  const std::string message = StringAt(json, "message");
  absl::Status error(CodeFromName(StringAt(json, "code")),
                     message.empty() ? "vibed reports an error without a message" : message);
  if (const auto reason = ReasonFromName(StringAt(json, "reason"))) {
    error = WithReason(error, *reason);
  }
  std::vector<std::string> log;
  for (const Json& line : ArrayAt(json, "log")) {
    if (line.is_string()) {
      log.push_back(line.get<std::string>());
    }
  }
  error = WithService(WithAdvice(error, StringAt(json, "advice")), StringAt(json, "service"));
  return WithLog(error, log);
}

absl::Status InterruptedError(absl::string_view message) {
  absl::Status error = absl::CancelledError(message);
  error.SetPayload(kInterruptedUrl, absl::Cord("1"));
  return error;
}

bool IsInterrupted(const absl::Status& status) {
  return status.GetPayload(kInterruptedUrl).has_value();
}

}  // namespace vibe::cli
