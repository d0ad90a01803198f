// Image references, such as "postgres:15", "ghcr.io/a/b@sha256:…" or "localhost:5000/x".
// Grammar and defaults as in the distribution project's reference package. Pure and thread-safe.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vibe::oci {

struct Reference {
  std::string registry;    // "docker.io", "localhost:5000"
  std::string repository;  // "library/postgres"
  std::string tag;     // "latest" when neither tag nor digest was given; may be empty with a digest
  std::string digest;  // "sha256:…" or empty

  std::string ToString() const;  // normalized, with registry: the image's name in containerd
};

// InvalidArgument says what is wrong with it. At most 512 characters.
absl::StatusOr<Reference> ParseReference(absl::string_view text);

// "sha256:" and 64 lower-case hex digits.
bool IsDigest(absl::string_view text);

}  // namespace vibe::oci
