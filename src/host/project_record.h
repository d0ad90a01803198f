// What the host remembers of one project: docs/formats/library.md describes the file. Plain values;
// the functions are pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "manifest/manifest.h"

namespace vibe::host {

// What the user said to each capability; nullopt: not asked yet.
struct Decisions {
  std::optional<bool> network;
  std::optional<bool> expose_ports;
  std::optional<bool> host_file_import;
};

struct RecordedPort {
  uint16_t container_port = 0;
  manifest::Protocol protocol = manifest::Protocol::kTcp;
  bool exposed = false;    // the manifest says hostExposure: auto
  uint16_t host_port = 0;  // of 127.0.0.1 and ::1, kept for the project's life; 0: none yet
};

struct RecordedService {
  std::string name;
  std::string image;
  std::vector<RecordedPort> ports;
};

// What was begun and has to be finished when the machine next runs; kNone: nothing.
enum class Pending { kNone, kStop, kRemoveKeepingData, kRemove };
inline bool IsRemoval(Pending pending) {
  return pending == Pending::kRemove || pending == Pending::kRemoveKeepingData;
}

struct ProjectRecord {
  std::string id;  // UUID
  std::string name;
  std::string app_id;
  std::string app_version;
  std::string path;  // the folder it was last opened from
  absl::Time created_at;
  bool removed = false;  // removed with its data kept: the same name and app find it again
  Pending pending = Pending::kNone;
  Decisions decisions;
  std::vector<RecordedService> services;  // in the manifest's order
};

std::string RecordToJson(const ProjectRecord& record);
// Checks every value; the message says which one is wrong.
absl::StatusOr<ProjectRecord> RecordFromJson(absl::string_view text);

// [a-z0-9][a-z0-9-]{0,62}, and no UUID: those are ids.
bool IsProjectName(absl::string_view name);
// The same, for a name that a user gave.
absl::Status CheckProjectName(absl::string_view name);
bool IsUuid(absl::string_view text);

// A project name made of any text: "My Notes!" gives "my-notes". "app" when nothing is left.
std::string Slug(absl::string_view text);

// The manifest's services, with the host ports that `old` had for the same service, port and
// protocol.
std::vector<RecordedService> MergeServices(const manifest::Manifest& manifest,
                                           const std::vector<RecordedService>& old);

// http://HOST:PORT of the first exposed TCP port with a host port, or "".
std::string UrlOf(const ProjectRecord& record, absl::string_view host);

}  // namespace vibe::host
