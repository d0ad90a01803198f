#include "manifest/healthcheck_section.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "manifest/nearest.h"
#include "manifest/section.h"

namespace vibe::manifest {
namespace {

constexpr size_t kMaxArguments = 256;
constexpr TextLimits kArgument = {.min = 0, .max = 2048, .controls = true};
constexpr int64_t kMaxDurationMs = int64_t{24} * 3600 * 1000;
constexpr int64_t kMaxRetries = 1000;
constexpr char kExample[] = "[\"CMD\", \"pg_isready\"]";

void CheckTest(const std::vector<std::string>& test, const Place& place, Diagnostics& diagnostics) {
  const std::string& form = test[0];
  if (form == "CMD") {
    if (test.size() < 2 || test[1].empty()) {
      diagnostics.Error(place, absl::StrCat("CMD needs a program to run, such as ", kExample));
    }
  } else if (form == "CMD-SHELL") {
    if (test.size() != 2 || test[1].empty()) {
      diagnostics.Error(place, "CMD-SHELL takes exactly one line for the shell");
    }
  } else if (form == "NONE") {
    if (test.size() != 1) {
      diagnostics.Error(place, "NONE stands alone");
    }
  } else {
    diagnostics.Error(place, absl::StrCat("a list starts with CMD, CMD-SHELL or NONE, not ",
                                          Quoted(form), ": such as ", kExample));
  }
}

std::vector<std::string> ReadTest(const Value& value, Diagnostics& diagnostics) {
  if (value.node->kind == TreeNode::Kind::kScalar) {
    auto line = ReadText(value, {.max = kArgument.max, .controls = true}, diagnostics);
    return line ? std::vector<std::string>{"CMD-SHELL", std::move(*line)}
                : std::vector<std::string>();
  }
  std::vector<std::string> test = ReadTexts(value, kMaxArguments, kArgument, kExample, diagnostics);
  const bool all_read = test.size() == value.node->items.size();
  if (test.empty()) {
    if (all_read && value.node->kind == TreeNode::Kind::kSequence) {
      diagnostics.Error(value.place, absl::StrCat("must not be empty: write it as ", kExample));
    }
  } else if (all_read) {
    CheckTest(test, value.place, diagnostics);
  }
  return test;
}

void ReadDuration(Section& section, absl::string_view key, int64_t min, int64_t& milliseconds) {
  if (const auto value = section.Find(key)) {
    milliseconds = ReadDurationMs(*value, min, kMaxDurationMs, "24h", section.diagnostics())
                       .value_or(milliseconds);
  }
}

}  // namespace

Healthcheck ReadHealthcheck(const Value& value, Diagnostics& diagnostics) {
  Section section(value, "{test: [\"CMD\", \"pg_isready\"], interval: 5s}", diagnostics);
  Healthcheck check;
  if (const auto test = section.Require("test", absl::StrCat("test: ", kExample))) {
    check.test = ReadTest(*test, diagnostics);
  }
  ReadDuration(section, "interval", 1, check.interval_ms);
  ReadDuration(section, "timeout", 1, check.timeout_ms);
  ReadDuration(section, "startPeriod", 0, check.start_period_ms);
  if (const auto retries = section.Find("retries")) {
    check.retries =
        static_cast<int>(ReadWhole(*retries, 1, kMaxRetries, diagnostics).value_or(check.retries));
  }
  section.RefuseUnknownKeys();
  return check;
}

}  // namespace vibe::manifest
