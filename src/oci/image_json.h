// The parts of image documents that more than one reader needs. Pure. Inside this folder only.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "oci/image.h"

namespace vibe::oci {

// InvalidArgument for a digest other than sha256, a negative size, a media type that is none.
absl::StatusOr<Descriptor> ParseDescriptor(const nlohmann::json& json);

struct IndexEntry {
  Descriptor descriptor;
  std::string os;            // empty when the entry names no platform
  std::string architecture;  // as above
  std::string variant;       // may be empty
  std::string ref_name;      // annotation org.opencontainers.image.ref.name; may be empty
};

// The entries of an index or of an OCI layout's index.json.
absl::StatusOr<std::vector<IndexEntry>> ParseIndex(absl::string_view text, absl::string_view what);

// The first entry that suits `platform` best: an exact one before one with a variant. Null for
// none.
const IndexEntry* BestEntry(const std::vector<IndexEntry>& entries, const Platform& platform);

// What a document without a usable media type is, from its members; empty when that is not clear.
std::string GuessMediaType(absl::string_view text);

}  // namespace vibe::oci
