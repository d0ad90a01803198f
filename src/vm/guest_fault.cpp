#include "vm/guest_fault.h"

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"

namespace vibe::vm {
namespace {

constexpr absl::string_view kStart = "---- start";  // of whoever writes the console's log
constexpr absl::string_view kError = "vibe-init: error: ";
constexpr absl::string_view kAdvice = "vibe-init: advice: ";

std::string After(const std::string& line, absl::string_view mark) {
  const size_t found = line.find(mark.data(), 0, mark.size());
  if (found == std::string::npos) {
    return "";
  }
  const size_t end = line.find_last_not_of("\r\n ");
  return line.substr(found + mark.size(), end + 1 - found - mark.size());
}

}  // namespace

GuestFault FindGuestFault(const std::vector<std::string>& console) {
  GuestFault fault;
  for (const std::string& line : console) {
    if (absl::StrContains(line, kStart)) {
      fault = {};
    } else if (fault.message.empty()) {
      fault.message = After(line, kError);
    } else if (fault.advice.empty()) {
      fault.advice = After(line, kAdvice);
    }
  }
  return fault;
}

}  // namespace vibe::vm
