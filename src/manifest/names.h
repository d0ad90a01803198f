// The grammar of names, versions and paths in a manifest. Pure.
#pragma once

#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace vibe::manifest {

// Reverse DNS: [a-zA-Z][a-zA-Z0-9]* and then at least one .[a-zA-Z][a-zA-Z0-9-]*.
bool IsAppId(absl::string_view text);

// SemVer 2.0.0: "1.2.3", "1.2.3-rc.1+build.5".
bool IsSemVer(absl::string_view text);

// [a-z0-9-]+
bool IsServiceName(absl::string_view text);

inline constexpr size_t kMaxHostName = 253;  // of the domain name system

// A host name in lower case: labels of a-z, 0-9, - and _ with dots between, each with a letter or
// digit at both ends and at most 63 characters, together at most 253. None that programs take for
// an address, such as 10.1 or 0x7f.
bool IsHostName(absl::string_view text);

// Whether programs take the name for an IPv4 address, in one of the forms that inet_aton reads: its
// last label is a number, such as 10 or 0x7f.
bool IsTakenForAddress(absl::string_view text);

// Names that mean the container itself, whatever else they are given to: localhost and the like.
bool IsOwnHostName(absl::string_view text);

// [A-Za-z0-9][A-Za-z0-9_.-]*, as the name is a directory's too.
bool IsVolumeName(absl::string_view text);

// [A-Za-z_][A-Za-z0-9_]*
bool IsVariableName(absl::string_view text);

// "name", "1000", each with an optional ":group".
bool IsUser(absl::string_view text);

// An absolute path below /, without doubled or trailing slashes and "." parts; nothing when it is
// not absolute, holds "..", a control character, or is / itself.
std::optional<std::string> NormalizedPath(absl::string_view text);

// Whether a mount there would hide the runtime's own: /proc, /sys and below, /dev itself.
bool IsSystemPath(absl::string_view normalized);

// A path inside the package: not absolute, no "..", no backslash, no URL.
bool IsRelativePath(absl::string_view text);

}  // namespace vibe::manifest
