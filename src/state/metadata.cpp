#include "state/metadata.h"

#include <climits>
#include <set>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/utf8.h"
#include "state/json_fields.h"

namespace vibe::state {
namespace {

using nlohmann::json;

constexpr char kTimeFormat[] = "%Y-%m-%d%ET%H:%M:%E3SZ";  // RFC 3339, UTC
constexpr size_t kLeftOutCost = 64;                       // of a path beside its bytes
constexpr size_t kMaxProblemBytes = 4096;  // of a volume's problem and of its check's error

bool IsText(absl::string_view text, size_t max) {
  return text.size() <= max && text.find('\0') == text.npos && ValidUtf8(text) == text;
}

bool IsDigest(absl::string_view text) {
  return text.size() == 71 && text.substr(0, 7) == "sha256:" &&
         text.find_first_not_of("0123456789abcdef", 7) == text.npos;
}

// The generic kind is what a volume is that says nothing.
std::optional<Consistency> ConsistencyFromName(absl::string_view name) {
  for (const Consistency consistency :
       {Consistency::kGeneric, Consistency::kSqlite, Consistency::kPostgres}) {
    if (ConsistencyName(consistency) == name) {
      return consistency;
    }
  }
  return std::nullopt;
}

json NullWhenEmpty(const std::string& text) {
  return text.empty() ? json() : json(text);
}

// A path is bytes, JSON is UTF-8: what is not printable ASCII is escaped as in C.
json LeftOutToJson(const std::vector<std::string>& paths) {
  json list = json::array();
  for (const std::string& path : paths) {
    list.push_back(absl::CHexEscape(path));
  }
  return list;
}

std::vector<std::string> LeftOutFromJson(const json& list, FieldReader& fields) {
  std::vector<std::string> paths;
  for (const json& escaped : list) {
    std::string path;
    if (!escaped.is_string() || !absl::CUnescape(escaped.get<std::string>(), &path)) {
      fields.Fail("leftOut", "a list of paths");
      break;
    }
    paths.push_back(std::move(path));
  }
  return paths;
}

bool AreInnerPaths(const std::vector<std::string>& paths) {
  size_t bytes = 0;
  for (const std::string& path : paths) {
    if (path.empty() || path.size() >= PATH_MAX || path[0] == '/' || path.find('\0') != path.npos) {
      return false;
    }
    bytes += path.size() + kLeftOutCost;
  }
  return bytes <= kMaxLeftOutBytes;
}

json VolumeToJson(const VolumeManifest& volume) {
  json object = {{"consistency", std::string(ConsistencyName(volume.consistency))},
                 {"sizeBytes", volume.size_bytes},
                 {"digest", NullWhenEmpty(volume.digest)}};
  if (!volume.integrity_check.empty()) {
    object["integrityCheck"] = volume.integrity_check;
  }
  if (!volume.dump_format.empty()) {
    object["dumpFormat"] = volume.dump_format;
  }
  if (volume.raw_only) {
    object["rawOnly"] = true;
  }
  if (!volume.problem.empty()) {
    object["problem"] = volume.problem;
  }
  return object;
}

VolumeManifest VolumeFromJson(const json& object, FieldReader& outer) {
  FieldReader fields(object);
  VolumeManifest volume;
  const std::optional<Consistency> consistency = ConsistencyFromName(fields.Text("consistency"));
  if (consistency.has_value()) {
    volume.consistency = *consistency;
  } else {
    fields.Fail("consistency", "a known kind");
  }
  volume.size_bytes = fields.Number("sizeBytes");
  volume.digest = fields.Text("digest");
  volume.integrity_check = fields.OptionalText("integrityCheck");
  volume.dump_format = fields.OptionalText("dumpFormat");
  volume.raw_only = object.contains("rawOnly") && fields.Flag("rawOnly");
  volume.problem = fields.OptionalText("problem");
  if (!fields.ok()) {
    outer.Fail("volumeManifests", absl::StrCat("as it should be: ", fields.error()));
  }
  return volume;
}

absl::Status Invalid(absl::string_view what) {
  return absl::InvalidArgumentError(what);
}

absl::Status Damaged(absl::string_view file, absl::string_view why) {
  return Error(absl::StatusCode::kDataLoss, Reason::kSnapshotMismatch,
               absl::StrCat(file, " is damaged: ", why));
}

}  // namespace

absl::string_view ConsistencyName(Consistency consistency) {
  switch (consistency) {
    case Consistency::kGeneric:
      return "generic";
    case Consistency::kSqlite:
      return "sqlite";
    case Consistency::kPostgres:
      return "postgres";
  }
  return "";
}

absl::string_view SnapshotReasonName(SnapshotReason reason) {
  switch (reason) {
    case SnapshotReason::kManual:
      return "manual";
    case SnapshotReason::kAutosave:
      return "autosave";
    case SnapshotReason::kBeforeUpgrade:
      return "before-upgrade";
    case SnapshotReason::kBeforeRestore:
      return "before-restore";
  }
  return "";
}

std::optional<SnapshotReason> SnapshotReasonFromName(absl::string_view name) {
  for (const SnapshotReason reason :
       {SnapshotReason::kManual, SnapshotReason::kAutosave, SnapshotReason::kBeforeUpgrade,
        SnapshotReason::kBeforeRestore}) {
    if (SnapshotReasonName(reason) == name) {
      return reason;
    }
  }
  return std::nullopt;
}

bool IsSnapshotId(absl::string_view text) {
  if (text.size() != 36) {
    return false;
  }
  for (size_t i = 0; i < text.size(); ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    const char c = text[i];
    if (dash ? c != '-' : !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
      return false;
    }
  }
  return true;
}

absl::Status CheckMetadata(const SnapshotMetadata& metadata) {
  if (!IsSnapshotId(metadata.snapshot_id) ||
      !(metadata.parent_snapshot_id.empty() || IsSnapshotId(metadata.parent_snapshot_id))) {
    return Invalid("a snapshot's id is no UUID");
  }
  if (!IsText(metadata.message, kMaxMessageBytes)) {
    return Invalid(
        absl::StrCat("the message must be UTF-8 of at most ", kMaxMessageBytes, " bytes"));
  }
  if (!IsText(metadata.app_version, kMaxLabelBytes) ||
      !IsText(metadata.project_id, kMaxLabelBytes)) {
    return Invalid("the app's version or the project's id is too long or no UTF-8");
  }
  if (metadata.labels.size() > kMaxLabels) {
    return Invalid(absl::StrCat("there may be at most ", kMaxLabels, " labels"));
  }
  for (const auto& [key, value] : metadata.labels) {
    if (key.empty() || !IsText(key, kMaxLabelBytes) || !IsText(value, kMaxLabelBytes)) {
      return Invalid(absl::StrCat("a label and its value must be UTF-8 of at most ", kMaxLabelBytes,
                                  " bytes each, and not empty before the '='"));
    }
  }
  if (metadata.warnings.size() > kMaxWarnings) {
    return Invalid(absl::StrCat("there may be at most ", kMaxWarnings, " warnings"));
  }
  for (const std::string& warning : metadata.warnings) {
    if (!IsText(warning, kMaxWarningBytes)) {
      return Invalid("a warning is too long or no UTF-8");
    }
  }
  if (metadata.left_out.has_value() && !AreInnerPaths(*metadata.left_out)) {
    return Invalid("\"leftOut\" has too many paths, or one that is none");
  }
  if (metadata.volumes.size() > kMaxVolumes) {
    return Invalid(absl::StrCat("there may be at most ", kMaxVolumes, " volumes"));
  }
  for (const auto& [name, volume] : metadata.volumes) {
    if (name.empty() || name == "." || name == ".." || name.find('/') != name.npos ||
        !IsText(name, 255)) {
      return Invalid("a volume's name must be a file's name in UTF-8");
    }
    if (!IsText(volume.problem, kMaxProblemBytes) ||
        !IsText(volume.integrity_check, kMaxProblemBytes) ||
        !(volume.digest.empty() || IsDigest(volume.digest))) {
      return Invalid(
          absl::StrCat("what was found out about the volume ", name, " cannot be recorded"));
    }
  }
  return absl::OkStatus();
}

std::string MetadataToJson(const SnapshotMetadata& metadata) {
  json volumes = json::object();
  for (const auto& [name, volume] : metadata.volumes) {
    volumes[name] = VolumeToJson(volume);
  }
  json document = {
      {"schemaVersion", kSchemaVersion},
      {"snapshotId", metadata.snapshot_id},
      {"projectId", metadata.project_id},
      {"timestamp", absl::FormatTime(kTimeFormat, metadata.timestamp, absl::UTCTimeZone())},
      {"parentSnapshotId", NullWhenEmpty(metadata.parent_snapshot_id)},
      {"reason", std::string(SnapshotReasonName(metadata.reason))},
      {"appVersion", metadata.app_version},
      {"message", metadata.message},
      {"labels", metadata.labels},
      {"volumeManifests", std::move(volumes)},
      {"stateDigest", NullWhenEmpty(metadata.state_digest)},
      {"sizeBytes", metadata.size_bytes},
      {"pauseMicroseconds", absl::ToInt64Microseconds(metadata.pause)},
      {"preSaveMicroseconds", absl::ToInt64Microseconds(metadata.pre_save)},
      {"warnings", metadata.warnings},
      {"complete", metadata.complete},
      {"subvolumeUuid", metadata.subvolume_uuid},
      {"sourceUuid", metadata.source_uuid},
      {"sourceGeneration", metadata.source_generation},
      {"generation", metadata.generation}};
  if (metadata.left_out.has_value()) {
    document["leftOut"] = LeftOutToJson(*metadata.left_out);
  }
  return document.dump(2) + "\n";
}

absl::StatusOr<SnapshotMetadata> MetadataFromJson(absl::string_view text) {
  constexpr char kFile[] = "metadata.json";
  VIBE_ASSIGN_OR_RETURN(const json document, ParseDocument(text, kFile));
  FieldReader fields(document);
  SnapshotMetadata metadata;
  metadata.snapshot_id = fields.Text("snapshotId");
  metadata.project_id = fields.Text("projectId");
  std::string unused;
  if (!absl::ParseTime(absl::RFC3339_full, fields.Text("timestamp"), &metadata.timestamp,
                       &unused)) {
    fields.Fail("timestamp", "a time");
  }
  metadata.parent_snapshot_id = fields.Text("parentSnapshotId");
  const std::optional<SnapshotReason> reason = SnapshotReasonFromName(fields.Text("reason"));
  if (reason.has_value()) {
    metadata.reason = *reason;
  } else {
    fields.Fail("reason", "a known one");
  }
  metadata.app_version = fields.Text("appVersion");
  metadata.message = fields.Text("message");
  for (const auto& [key, value] : fields.Object("labels").items()) {
    if (!value.is_string()) {
      fields.Fail("labels", "a map of strings");
      break;
    }
    metadata.labels[key] = value.get<std::string>();
  }
  for (const auto& [name, volume] : fields.Object("volumeManifests").items()) {
    metadata.volumes[name] = VolumeFromJson(volume, fields);
  }
  metadata.state_digest = fields.Text("stateDigest");
  metadata.size_bytes = fields.Number("sizeBytes");
  metadata.pause = absl::Microseconds(fields.Number("pauseMicroseconds"));
  // Snapshots from before there were hooks have neither.
  if (document.contains("preSaveMicroseconds")) {
    metadata.pre_save = absl::Microseconds(fields.Number("preSaveMicroseconds"));
  }
  if (document.contains("warnings")) {
    for (const json& warning : fields.Array("warnings")) {
      if (!warning.is_string()) {
        fields.Fail("warnings", "a list of texts");
        break;
      }
      metadata.warnings.push_back(warning.get<std::string>());
    }
  }
  metadata.complete = fields.Flag("complete");
  if (document.contains("leftOut")) {
    metadata.left_out = LeftOutFromJson(fields.Array("leftOut"), fields);
  }
  metadata.subvolume_uuid = fields.Text("subvolumeUuid");
  metadata.source_uuid = fields.Text("sourceUuid");
  metadata.source_generation = fields.Number("sourceGeneration");
  metadata.generation = fields.Number("generation");
  if (!fields.ok()) {
    return Damaged(kFile, fields.error());
  }
  if (const absl::Status checked = CheckMetadata(metadata); !checked.ok()) {
    return Damaged(kFile, checked.message());
  }
  if (metadata.subvolume_uuid.empty() || (metadata.complete && !IsDigest(metadata.state_digest))) {
    return Damaged(kFile, "it does not say which state it describes");
  }
  return metadata;
}

std::string IndexToJson(const SnapshotIndex& index) {
  const json document = {{"schemaVersion", kSchemaVersion},
                         {"projectId", index.project_id},
                         {"snapshots", index.snapshot_ids}};
  return document.dump(2) + "\n";
}

absl::StatusOr<SnapshotIndex> IndexFromJson(absl::string_view text) {
  constexpr char kFile[] = "index.json";
  VIBE_ASSIGN_OR_RETURN(const json document, ParseDocument(text, kFile));
  FieldReader fields(document);
  SnapshotIndex index;
  index.project_id = fields.Text("projectId");
  std::set<std::string> seen;
  for (const json& id : fields.Array("snapshots")) {
    if (!id.is_string() || !IsSnapshotId(id.get<std::string>()) ||
        !seen.insert(id.get<std::string>()).second) {
      fields.Fail("snapshots", "a list of different ids");
      break;
    }
    index.snapshot_ids.push_back(id.get<std::string>());
  }
  if (index.snapshot_ids.size() > kMaxSnapshots) {
    fields.Fail("snapshots", absl::StrCat("a list of at most ", kMaxSnapshots));
  }
  if (!fields.ok()) {
    return Damaged(kFile, fields.error());
  }
  return index;
}

}  // namespace vibe::state
