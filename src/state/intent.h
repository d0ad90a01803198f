// intent.json: what is under way in a project. Inside this room only. Pure.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vibe::state {

struct Intent {
  enum class Kind { kSave, kDelete, kRestore, kDuplicate };
  Kind kind = Kind::kSave;
  std::string snapshot_id;   // empty for a duplicate of a live state
  std::string staged;        // its name in staging/
  std::string current_uuid;  // restore: of the `current` that is to be replaced; empty without one
};

absl::string_view IntentKindName(Intent::Kind kind);
std::string IntentToJson(const Intent& intent);
// Errors as those of MetadataFromJson.
absl::StatusOr<Intent> IntentFromJson(absl::string_view json);

}  // namespace vibe::state
