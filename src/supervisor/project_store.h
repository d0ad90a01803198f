// The projects that the machine knows, in one SQLite file: what survives restarts and power cuts.
// Every change is on the disk when its call returns.
//
// Thread-safe. Calls block for the disk, and up to five seconds for another process that has the
// file locked.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace vibe::supervisor {

// What the user allowed.
struct ProjectGrants {
  bool network = false;       // outbound internet
  bool expose_ports = false;  // host ports
  bool host_file_import = false;
};

struct ProjectRecord {
  std::string id;    // chosen by the host
  std::string name;  // unique
  std::string app_id;
  std::string app_version;
  std::string manifest_json;
  std::string package_digest;  // "sha256:…"; empty without app files
  int network_index = 0;       // unique, 0..4095; stays the project's until it is deleted
  ProjectGrants grants;
  bool want_running = false;  // the desired state, also after a restart of the machine
  bool opened = false;        // every image is present
  absl::Time created_at;      // in whole milliseconds
  absl::Time updated_at;
};

// What an app was before another version of it took its place.
struct AppVersion {
  std::string app_version;
  std::string manifest_json;
  std::string package_digest;
};

AppVersion VersionOf(const ProjectRecord& record);
// The record as it is, or would be, under that version.
ProjectRecord WithVersion(ProjectRecord record, const AppVersion& version);

class ProjectStore {
 public:
  // Makes the file (mode 0600) when there is none; its folder must exist. FailedPrecondition when a
  // newer version of the program wrote it, DataLoss when it is no such file or damaged.
  static absl::StatusOr<std::unique_ptr<ProjectStore>> Open(const std::filesystem::path& path);
  ~ProjectStore();

  // Inserts the project, or updates the one with that id. The store decides network_index (the
  // smallest free one), created_at and updated_at; an update keeps want_running. Putting what is
  // there already changes nothing. Returns what is stored. CONFLICT when another project has the
  // name; ResourceExhausted when there are 4096 projects.
  absl::StatusOr<ProjectRecord> Put(const ProjectRecord& record);

  // NOT_FOUND when there is none.
  absl::StatusOr<ProjectRecord> Get(const std::string& id);
  absl::StatusOr<ProjectRecord> GetByName(const std::string& name);
  absl::Status SetWantRunning(const std::string& id, bool want_running);
  absl::Status SetOpened(const std::string& id, bool opened);

  absl::StatusOr<std::vector<ProjectRecord>> List();  // sorted by name
  absl::Status Delete(const std::string& id);         // what is gone already is a success

  // The version that a snapshot's data belongs to, kept as long as the snapshot: a restore of it
  // brings both back. Goes with its project, too.
  absl::Status KeepVersion(const std::string& project_id, const std::string& snapshot_id,
                           const AppVersion& version);
  absl::StatusOr<std::map<std::string, AppVersion>> KeptVersions(
      const std::string& project_id);  // by snapshot
  absl::Status ForgetVersion(const std::string& project_id, const std::string& snapshot_id);

  // By a project, or by a version that is kept.
  absl::StatusOr<bool> PackageInUse(const std::string& digest);

 private:
  struct Database;
  explicit ProjectStore(std::unique_ptr<Database> database);
  const std::unique_ptr<Database> database_;
};

}  // namespace vibe::supervisor
