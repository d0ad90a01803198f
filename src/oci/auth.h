// How a registry asks for a login, and what a token server answers. Pure. Inside this folder only.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vibe::oci {

struct Challenge {
  std::string scheme;                             // lower case: "bearer", "basic"
  std::map<std::string, std::string> parameters;  // names in lower case
};

// The challenges of one WWW-Authenticate header. What cannot be read is left out.
std::vector<Challenge> ParseChallenges(absl::string_view header);

// The token in a token server's answer. DataLoss when there is none that can go into a header.
absl::StatusOr<std::string> ParseToken(absl::string_view json);

}  // namespace vibe::oci
