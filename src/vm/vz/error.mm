#import "vm/vz/error.h"

#import <Virtualization/Virtualization.h>

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace vibe::vm::vz {
namespace {

constexpr int kMostCauses = 4;

void Add(NSString* text, std::string& message) {
  const char* utf8 = text.UTF8String;
  // The reason often repeats the description.
  if (utf8 != nullptr && *utf8 != '\0' && !absl::StrContains(message, utf8)) {
    absl::StrAppend(&message, message.empty() ? "" : ": ", utf8);
  }
}

std::string Message(NSError* error) {
  std::string message;
  for (int i = 0; error != nil && i < kMostCauses; ++i) {
    Add(error.localizedDescription, message);
    Add(error.localizedFailureReason, message);
    NSError* cause = error.userInfo[NSUnderlyingErrorKey];
    error = [cause isKindOfClass:[NSError class]] ? cause : nil;
  }
  return message.empty() ? "an error without a description" : message;
}

absl::StatusCode Code(NSError* error) {
  if ([error.domain isEqualToString:NSPOSIXErrorDomain]) {
    return absl::ErrnoToStatusCode(static_cast<int>(error.code));
  }
  if (![error.domain isEqualToString:VZErrorDomain]) {
    return absl::StatusCode::kUnknown;
  }
  switch (error.code) {
    case VZErrorInvalidVirtualMachineConfiguration:
      return absl::StatusCode::kInvalidArgument;
    case VZErrorInvalidVirtualMachineState:
    case VZErrorInvalidVirtualMachineStateTransition:
    case VZErrorInvalidDiskImage:
      return absl::StatusCode::kFailedPrecondition;
    case VZErrorVirtualMachineLimitExceeded:
      return absl::StatusCode::kResourceExhausted;
    case VZErrorInternal:
      return absl::StatusCode::kInternal;
    default:
      return absl::StatusCode::kUnknown;
  }
}

}  // namespace

absl::Status StatusFrom(NSError* error, absl::string_view context) {
  if (error == nil) {
    return absl::OkStatus();
  }
  absl::Status status(Code(error), absl::StrCat(context, ": ", Message(error)));
  if (absl::IsResourceExhausted(status)) {
    return WithAdvice(std::move(status), "close other virtual machines, then try again");
  }
  return status;
}

}  // namespace vibe::vm::vz
