#include "supervisor/project_store.h"

#include <fcntl.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "network/network.h"
#include "supervisor/machine_clock.h"
#include "supervisor/sqlite.h"

namespace vibe::supervisor {
namespace {

constexpr int64_t kSchemaVersion = 2;
constexpr char kProjects[] = R"(
  CREATE TABLE projects (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    app_id TEXT NOT NULL,
    app_version TEXT NOT NULL,
    manifest_json TEXT NOT NULL,
    package_digest TEXT NOT NULL,
    network_index INTEGER NOT NULL UNIQUE CHECK (network_index BETWEEN 0 AND 4095),
    grant_network INTEGER NOT NULL,
    grant_expose_ports INTEGER NOT NULL,
    grant_host_file_import INTEGER NOT NULL,
    want_running INTEGER NOT NULL,
    opened INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX projects_by_package ON projects (package_digest);
)";
constexpr char kVersions[] = R"(
  CREATE TABLE versions (
    project_id TEXT NOT NULL,
    snapshot_id TEXT NOT NULL,
    app_version TEXT NOT NULL,
    manifest_json TEXT NOT NULL,
    package_digest TEXT NOT NULL,
    PRIMARY KEY (project_id, snapshot_id)
  ) STRICT;
  CREATE INDEX versions_by_package ON versions (package_digest);
  PRAGMA user_version = 2;
)";

constexpr char kSelect[] =
    "SELECT id, name, app_id, app_version, manifest_json, package_digest, network_index,"
    " grant_network, grant_expose_ports, grant_host_file_import, want_running, opened,"
    " created_at_ms, updated_at_ms FROM projects ";
constexpr char kReplace[] =
    "INSERT INTO projects (id, name, app_id, app_version, manifest_json, package_digest,"
    " network_index, grant_network, grant_expose_ports, grant_host_file_import, want_running,"
    " opened, created_at_ms, updated_at_ms)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)"
    " ON CONFLICT (id) DO UPDATE SET name = ?2, app_id = ?3, app_version = ?4,"
    " manifest_json = ?5, package_digest = ?6, grant_network = ?8, grant_expose_ports = ?9,"
    " grant_host_file_import = ?10, opened = ?12, updated_at_ms = ?14";
constexpr char kSetWantRunning[] =
    "UPDATE projects SET want_running = ?2, updated_at_ms = ?3 WHERE id = ?1";
constexpr char kSetOpened[] = "UPDATE projects SET opened = ?2, updated_at_ms = ?3 WHERE id = ?1";

ProjectRecord ReadRecord(const SqliteStatement& row) {
  ProjectRecord record;
  record.id = row.Text(0);
  record.name = row.Text(1);
  record.app_id = row.Text(2);
  record.app_version = row.Text(3);
  record.manifest_json = row.Text(4);
  record.package_digest = row.Text(5);
  record.network_index = static_cast<int>(row.Number(6));
  record.grants.network = row.Number(7) != 0;
  record.grants.expose_ports = row.Number(8) != 0;
  record.grants.host_file_import = row.Number(9) != 0;
  record.want_running = row.Number(10) != 0;
  record.opened = row.Number(11) != 0;
  record.created_at = absl::FromUnixMillis(row.Number(12));
  record.updated_at = absl::FromUnixMillis(row.Number(13));
  return record;
}

void BindRecord(const ProjectRecord& record, SqliteStatement& statement) {
  statement.Bind(1, record.id)
      .Bind(2, record.name)
      .Bind(3, record.app_id)
      .Bind(4, record.app_version)
      .Bind(5, record.manifest_json)
      .Bind(6, record.package_digest)
      .Bind(7, int64_t{record.network_index})
      .Bind(8, int64_t{record.grants.network})
      .Bind(9, int64_t{record.grants.expose_ports})
      .Bind(10, int64_t{record.grants.host_file_import})
      .Bind(11, int64_t{record.want_running})
      .Bind(12, int64_t{record.opened})
      .Bind(13, absl::ToUnixMillis(record.created_at))
      .Bind(14, absl::ToUnixMillis(record.updated_at));
}

bool SameContent(const ProjectRecord& a, const ProjectRecord& b) {
  return a.name == b.name && a.app_id == b.app_id && a.app_version == b.app_version &&
         a.manifest_json == b.manifest_json && a.package_digest == b.package_digest &&
         a.grants.network == b.grants.network && a.grants.expose_ports == b.grants.expose_ports &&
         a.grants.host_file_import == b.grants.host_file_import && a.opened == b.opened;
}

absl::Status Missing(absl::string_view project) {
  return Error(absl::StatusCode::kNotFound, Reason::kNotFound,
               absl::StrCat("there is no project ", project));
}

// SQLite would make it readable by all; the write-ahead log takes the mode of the database.
absl::Status MakePrivate(const std::filesystem::path& path) {
  const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  return file.valid() ? absl::OkStatus() : ErrnoError(errno, absl::StrCat("open ", path.string()));
}

absl::Status Migrate(SqliteConnection& connection) {
  return connection.Transaction([&]() -> absl::Status {
    VIBE_ASSIGN_OR_RETURN(SqliteStatement read, connection.Prepare("PRAGMA user_version"));
    int64_t version = -1;
    VIBE_RETURN_IF_ERROR(read.Run([&](const SqliteStatement& row) { version = row.Number(0); }));
    if (version == 0) {
      VIBE_RETURN_IF_ERROR(connection.Execute(kProjects));
    }
    if (version == 0 || version == 1) {
      return connection.Execute(kVersions);
    }
    if (version != kSchemaVersion) {
      return WithAdvice(absl::FailedPreconditionError(
                            absl::StrCat("the project database has version ", version,
                                         ", this program knows version ", kSchemaVersion)),
                        "a newer version of Vibe wrote it: use that version");
    }
    return absl::OkStatus();
  });
}

}  // namespace

struct ProjectStore::Database {
  explicit Database(SqliteConnection opened) : connection(std::move(opened)) {}

  absl::Status Prepare() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    const std::pair<SqliteStatement*, std::string> statements[] = {
        {&get, absl::StrCat(kSelect, "WHERE id = ?1")},
        {&get_by_name, absl::StrCat(kSelect, "WHERE name = ?1")},
        {&list, absl::StrCat(kSelect, "ORDER BY name")},
        {&indexes, "SELECT network_index FROM projects ORDER BY network_index"},
        {&replace, kReplace},
        {&set_want_running, kSetWantRunning},
        {&set_opened, kSetOpened},
        {&remove, "DELETE FROM projects WHERE id = ?1"},
        {&keep_version,
         "INSERT OR REPLACE INTO versions (project_id, snapshot_id, app_version, manifest_json,"
         " package_digest) VALUES (?1, ?2, ?3, ?4, ?5)"},
        {&kept_versions,
         "SELECT snapshot_id, app_version, manifest_json, package_digest FROM versions"
         " WHERE project_id = ?1"},
        {&forget_version, "DELETE FROM versions WHERE project_id = ?1 AND snapshot_id = ?2"},
        {&forget_versions, "DELETE FROM versions WHERE project_id = ?1"},
        {&package_in_use,
         "SELECT 1 FROM projects WHERE package_digest = ?1"
         " UNION SELECT 1 FROM versions WHERE package_digest = ?1 LIMIT 1"}};
    for (const auto& [statement, sql] : statements) {
      VIBE_ASSIGN_OR_RETURN(*statement, connection.Prepare(sql));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::optional<ProjectRecord>> Find(SqliteStatement& by, const std::string& key)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    std::optional<ProjectRecord> found;
    VIBE_RETURN_IF_ERROR(
        by.Bind(1, key).Run([&](const SqliteStatement& row) { found = ReadRecord(row); }));
    return found;
  }

  absl::StatusOr<int> FreeIndex() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    int free = 0;
    VIBE_RETURN_IF_ERROR(
        indexes.Run([&](const SqliteStatement& row) { free += row.Number(0) == free ? 1 : 0; }));
    if (free >= network::kMaxProjects) {
      return absl::ResourceExhaustedError(
          absl::StrCat("there are ", network::kMaxProjects, " projects already"));
    }
    return free;
  }

  absl::Status PutLocked(ProjectRecord& record) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    VIBE_ASSIGN_OR_RETURN(const auto holder, Find(get_by_name, record.name));
    if (holder && holder->id != record.id) {
      return Error(absl::StatusCode::kAlreadyExists, Reason::kConflict,
                   absl::StrCat("another project is called ", record.name));
    }
    VIBE_ASSIGN_OR_RETURN(const auto known, Find(get, record.id));
    const absl::Time now = absl::FromUnixMillis(absl::ToUnixMillis(MachineTime()));
    if (known) {
      if (SameContent(*known, record)) {
        record = *known;
        return absl::OkStatus();
      }
      record.network_index = known->network_index;
      record.want_running = known->want_running;
      record.created_at = known->created_at;
    } else {
      VIBE_ASSIGN_OR_RETURN(record.network_index, FreeIndex());
      record.created_at = now;
    }
    record.updated_at = now;
    BindRecord(record, replace);
    return replace.Run();
  }

  absl::Status Set(SqliteStatement& statement, const std::string& id, bool value)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    VIBE_RETURN_IF_ERROR(statement.Bind(1, id)
                             .Bind(2, int64_t{value})
                             .Bind(3, absl::ToUnixMillis(MachineTime()))
                             .Run());
    return connection.Changes() == 0 ? Missing(id) : absl::OkStatus();
  }

  absl::Mutex mutex;
  SqliteConnection connection ABSL_GUARDED_BY(mutex);
  SqliteStatement get ABSL_GUARDED_BY(mutex);
  SqliteStatement get_by_name ABSL_GUARDED_BY(mutex);
  SqliteStatement list ABSL_GUARDED_BY(mutex);
  SqliteStatement indexes ABSL_GUARDED_BY(mutex);
  SqliteStatement replace ABSL_GUARDED_BY(mutex);
  SqliteStatement set_want_running ABSL_GUARDED_BY(mutex);
  SqliteStatement set_opened ABSL_GUARDED_BY(mutex);
  SqliteStatement remove ABSL_GUARDED_BY(mutex);
  SqliteStatement keep_version ABSL_GUARDED_BY(mutex);
  SqliteStatement kept_versions ABSL_GUARDED_BY(mutex);
  SqliteStatement forget_version ABSL_GUARDED_BY(mutex);
  SqliteStatement forget_versions ABSL_GUARDED_BY(mutex);
  SqliteStatement package_in_use ABSL_GUARDED_BY(mutex);
};

ProjectStore::ProjectStore(std::unique_ptr<Database> database) : database_(std::move(database)) {}
ProjectStore::~ProjectStore() = default;

absl::StatusOr<std::unique_ptr<ProjectStore>> ProjectStore::Open(
    const std::filesystem::path& path) {
  VIBE_RETURN_IF_ERROR(MakePrivate(path));
  VIBE_ASSIGN_OR_RETURN(SqliteConnection connection, SqliteConnection::Open(path));
  VIBE_RETURN_IF_ERROR(
      connection.Execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                         " PRAGMA foreign_keys = ON;"));
  VIBE_RETURN_IF_ERROR(Migrate(connection));
  auto database = std::make_unique<Database>(std::move(connection));
  {
    absl::MutexLock lock(&database->mutex);
    VIBE_RETURN_IF_ERROR(database->Prepare());
  }
  return std::unique_ptr<ProjectStore>(new ProjectStore(std::move(database)));
}

absl::StatusOr<ProjectRecord> ProjectStore::Put(const ProjectRecord& record) {
  ProjectRecord stored = record;
  absl::MutexLock lock(&database_->mutex);
  VIBE_RETURN_IF_ERROR(database_->connection.Transaction([&] {
    database_->mutex.AssertHeld();
    return database_->PutLocked(stored);
  }));
  return stored;
}

absl::StatusOr<ProjectRecord> ProjectStore::Get(const std::string& id) {
  absl::MutexLock lock(&database_->mutex);
  VIBE_ASSIGN_OR_RETURN(auto found, database_->Find(database_->get, id));
  return found ? absl::StatusOr<ProjectRecord>(*std::move(found)) : Missing(id);
}

absl::StatusOr<ProjectRecord> ProjectStore::GetByName(const std::string& name) {
  absl::MutexLock lock(&database_->mutex);
  VIBE_ASSIGN_OR_RETURN(auto found, database_->Find(database_->get_by_name, name));
  return found ? absl::StatusOr<ProjectRecord>(*std::move(found)) : Missing(name);
}

absl::StatusOr<std::vector<ProjectRecord>> ProjectStore::List() {
  absl::MutexLock lock(&database_->mutex);
  std::vector<ProjectRecord> records;
  VIBE_RETURN_IF_ERROR(
      database_->list.Run([&](const SqliteStatement& row) { records.push_back(ReadRecord(row)); }));
  return records;
}

absl::Status ProjectStore::SetWantRunning(const std::string& id, bool want_running) {
  absl::MutexLock lock(&database_->mutex);
  return database_->Set(database_->set_want_running, id, want_running);
}

absl::Status ProjectStore::SetOpened(const std::string& id, bool opened) {
  absl::MutexLock lock(&database_->mutex);
  return database_->Set(database_->set_opened, id, opened);
}

absl::Status ProjectStore::Delete(const std::string& id) {
  absl::MutexLock lock(&database_->mutex);
  return database_->connection.Transaction([&]() -> absl::Status {
    database_->mutex.AssertHeld();
    VIBE_RETURN_IF_ERROR(database_->forget_versions.Bind(1, id).Run());
    return database_->remove.Bind(1, id).Run();
  });
}

AppVersion VersionOf(const ProjectRecord& record) {
  return {record.app_version, record.manifest_json, record.package_digest};
}

ProjectRecord WithVersion(ProjectRecord record, const AppVersion& version) {
  record.app_version = version.app_version;
  record.manifest_json = version.manifest_json;
  record.package_digest = version.package_digest;
  return record;
}

absl::Status ProjectStore::KeepVersion(const std::string& project_id,
                                       const std::string& snapshot_id, const AppVersion& version) {
  absl::MutexLock lock(&database_->mutex);
  return database_->keep_version.Bind(1, project_id)
      .Bind(2, snapshot_id)
      .Bind(3, version.app_version)
      .Bind(4, version.manifest_json)
      .Bind(5, version.package_digest)
      .Run();
}

absl::StatusOr<std::map<std::string, AppVersion>> ProjectStore::KeptVersions(
    const std::string& project_id) {
  absl::MutexLock lock(&database_->mutex);
  std::map<std::string, AppVersion> versions;
  VIBE_RETURN_IF_ERROR(
      database_->kept_versions.Bind(1, project_id).Run([&](const SqliteStatement& row) {
        versions[row.Text(0)] = {row.Text(1), row.Text(2), row.Text(3)};
      }));
  return versions;
}

absl::Status ProjectStore::ForgetVersion(const std::string& project_id,
                                         const std::string& snapshot_id) {
  absl::MutexLock lock(&database_->mutex);
  return database_->forget_version.Bind(1, project_id).Bind(2, snapshot_id).Run();
}

absl::StatusOr<bool> ProjectStore::PackageInUse(const std::string& digest) {
  absl::MutexLock lock(&database_->mutex);
  bool used = false;
  VIBE_RETURN_IF_ERROR(
      database_->package_in_use.Bind(1, digest).Run([&](const SqliteStatement&) { used = true; }));
  return used;
}

}  // namespace vibe::supervisor
