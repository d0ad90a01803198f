// JSON from outside: size, depth and number of values are limited before anything is built, and the
// accessors take no type for granted. Pure. Inside this folder only.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vibe::oci {

inline constexpr size_t kMaxDocument = 8 << 20;  // bytes of an index, manifest or config

// A JSON object. InvalidArgument, with `what` ("the image index") as its subject, for anything
// else.
absl::StatusOr<nlohmann::json> ParseObject(absl::string_view text, absl::string_view what);

// The member of an object, or null: when there is none, and when `object` is no object.
const nlohmann::json& Member(const nlohmann::json& object, const char* name);

// A member that is a string without NUL of at most `max_bytes`; empty when it is absent or null.
absl::StatusOr<std::string> StringMember(const nlohmann::json& object, const char* name,
                                         size_t max_bytes);

// A member that is a list of such strings; empty when it is absent or null. One string counts as a
// list of one, as old Docker configs have it.
absl::StatusOr<std::vector<std::string>> StringsMember(const nlohmann::json& object,
                                                       const char* name, size_t max_count,
                                                       size_t max_bytes);

}  // namespace vibe::oci
