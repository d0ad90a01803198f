// Errors of Apple's frameworks as ours. Objective-C++ only.
#pragma once

#import <Foundation/Foundation.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace vibe::vm::vz {

// Ok for nil. The message has all that the error and those below it say.
absl::Status StatusFrom(NSError* error, absl::string_view context);

}  // namespace vibe::vm::vz
