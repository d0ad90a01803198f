#include "state/intent.h"

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "state/json_fields.h"
#include "state/metadata.h"

namespace vibe::state {
namespace {

std::optional<Intent::Kind> KindFromName(absl::string_view name) {
  for (const Intent::Kind kind : {Intent::Kind::kSave, Intent::Kind::kDelete,
                                  Intent::Kind::kRestore, Intent::Kind::kDuplicate}) {
    if (IntentKindName(kind) == name) {
      return kind;
    }
  }
  return std::nullopt;
}

bool IsStagedName(absl::string_view name) {
  return !name.empty() && name.size() <= 100 && name[0] != '.' &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == name.npos;
}

}  // namespace

absl::string_view IntentKindName(Intent::Kind kind) {
  switch (kind) {
    case Intent::Kind::kSave:
      return "save";
    case Intent::Kind::kDelete:
      return "delete";
    case Intent::Kind::kRestore:
      return "restore";
    case Intent::Kind::kDuplicate:
      return "duplicate";
  }
  return "";
}

std::string IntentToJson(const Intent& intent) {
  const nlohmann::json document = {{"schemaVersion", kSchemaVersion},
                                   {"kind", std::string(IntentKindName(intent.kind))},
                                   {"snapshotId", intent.snapshot_id},
                                   {"staged", intent.staged},
                                   {"currentUuid", intent.current_uuid}};
  return document.dump(2) + "\n";
}

absl::StatusOr<Intent> IntentFromJson(absl::string_view json) {
  constexpr char kFile[] = "intent.json";
  VIBE_ASSIGN_OR_RETURN(const nlohmann::json document, ParseDocument(json, kFile));
  FieldReader fields(document);
  Intent intent;
  const std::optional<Intent::Kind> kind = KindFromName(fields.Text("kind"));
  if (kind.has_value()) {
    intent.kind = *kind;
  } else {
    fields.Fail("kind", "a known one");
  }
  intent.snapshot_id = fields.Text("snapshotId");
  if (!IsSnapshotId(intent.snapshot_id) &&
      !(intent.snapshot_id.empty() && intent.kind == Intent::Kind::kDuplicate)) {
    fields.Fail("snapshotId", "an id");
  }
  intent.staged = fields.Text("staged");
  if (!IsStagedName(intent.staged)) {
    fields.Fail("staged", "a name");
  }
  intent.current_uuid = fields.Text("currentUuid");
  if (!fields.ok()) {
    return Error(absl::StatusCode::kDataLoss, Reason::kSnapshotMismatch,
                 absl::StrCat(kFile, " is damaged: ", fields.error()));
  }
  return intent;
}

}  // namespace vibe::state
