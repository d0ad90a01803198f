#include "supervisor/postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <system_error>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "base/status.h"
#include "supervisor/container_job.h"
#include "supervisor/tar_file.h"

namespace vibe::supervisor {
namespace fs = std::filesystem;
namespace {

constexpr absl::Duration kDumpLimit = absl::Hours(2);
constexpr uint64_t kMaxLog = 64 << 10;
constexpr uint64_t kMaxSettings = 1 << 20;
constexpr size_t kMaxLogLines = 20;
constexpr int kMaxDepth = 3;  // of the cluster in its volume

constexpr char kData[] = "/vibe/data";
constexpr char kOut[] = "/vibe/out";
constexpr char kRun[] = "/vibe/run";

// The clone is nobody's but ours and goes afterwards: no syncs, no checks of who asks.
constexpr char kScript[] = R"(set -eu
exec >>/vibe/out/log 2>&1 # the server writes to it too
if ! command -v pg_ctl >/dev/null; then
  for folder in /usr/lib/postgresql/*/bin /usr/local/pgsql/bin; do PATH="$PATH:$folder"; done
fi
echo 'local all all trust' > /vibe/run/hba.conf
rm -f "$PGDATA/postmaster.pid"
pg_ctl -D "$PGDATA" -w -t 3600 -l /vibe/out/log -o "-c hba_file=/vibe/run/hba.conf -c listen_addresses='' \
  -c unix_socket_directories=/vibe/run -c fsync=off -c autovacuum=off -c archive_mode=off -c ssl=off \
  -c logging_collector=off -c log_destination=stderr" start
cd /vibe/out
psql -X -w -A -t -q -d template1 \
  -c "select datname from pg_database where datallowconn and datname not in ('template0', 'template1') order by datname" > databases
pg_dumpall -w -g -l template1 > globals.sql
number=0
while IFS= read -r database; do
  PGDATABASE="$database" pg_dump -w -Fc -f "$number.dump"
  number=$((number + 1))
done < databases
pg_ctl -D "$PGDATA" -w -m immediate stop
rm -f log
)";

// The cluster's folder is the one with PG_VERSION: the volume itself or one not far below.
std::optional<fs::path> FindCluster(const fs::path& folder, int depth) {
  std::error_code error;
  if (fs::is_regular_file(fs::symlink_status(folder / "PG_VERSION", error))) {
    return folder;
  }
  if (depth == 0) {
    return std::nullopt;
  }
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    std::error_code gone;
    if (fs::is_directory(entry.symlink_status(gone))) {
      if (auto found = FindCluster(entry.path(), depth - 1)) {
        return found;
      }
    }
  }
  return std::nullopt;
}

std::vector<std::string> LastLines(const fs::path& log) {
  const auto text = ReadFile(log, kMaxLog);
  if (!text.ok()) {
    return {};
  }
  std::vector<std::string> lines = absl::StrSplit(*text, '\n', absl::SkipEmpty());
  if (lines.size() > kMaxLogLines) {
    lines.erase(lines.begin(), lines.end() - kMaxLogLines);
  }
  return lines;
}

// The new cluster takes the roles, their passwords and the databases from the dump, and who may
// connect from the old cluster's files; other settings too, as far as the new version knows them.
// It has checksums of its pages whether or not the old one had: their cost is small, and what the
// old one has only its own version can say.
constexpr char kLoadScript[] = R"(set -eu
exec >>/vibe/out/log 2>&1 # the server writes to it too
if ! command -v pg_ctl >/dev/null; then
  for folder in /usr/lib/postgresql/*/bin /usr/local/pgsql/bin; do PATH="$PATH:$folder"; done
fi
initdb -D "$PGDATA" -U "$PGUSER" -E UTF8 --locale=C.UTF-8 -A trust -N --data-checksums
echo 'local all all trust' > /vibe/run/hba.conf
pg_ctl -D "$PGDATA" -w -t 3600 -l /vibe/out/log -o "-c hba_file=/vibe/run/hba.conf -c listen_addresses='' \
  -c unix_socket_directories=/vibe/run -c autovacuum=off" start
cd /vibe/out
psql -X -w -q -d template1 -f globals.sql # the superuser is there already, and that is said
number=0
while IFS= read -r database; do
  if [ "$database" = postgres ]; then
    pg_restore -w -e -d postgres "$number.dump"
  else
    pg_restore -w -e -C -d template1 "$number.dump"
  fi
  number=$((number + 1))
done < databases
pg_ctl -D "$PGDATA" -w -t 3600 -m fast stop
for file in postgresql.conf postgresql.auto.conf; do
  if [ -f "$file.old" ]; then
    mv "$PGDATA/$file" "$file.new"
    cp "$file.old" "$PGDATA/$file"
    postgres -D "$PGDATA" -C data_directory || cp "$file.new" "$PGDATA/$file"
  fi
done
)";

constexpr char kVersionScript[] = R"(if ! command -v postgres >/dev/null; then
  for folder in /usr/lib/postgresql/*/bin /usr/local/pgsql/bin; do PATH="$PATH:$folder"; done
fi
exec postgres --version > /vibe/out/version 2> /vibe/out/log
)";

// "postgres (PostgreSQL) 15.6 (Debian …)" is "15", as PG_VERSION has it.
std::string MajorOf(absl::string_view version) {
  const size_t digit = version.find_first_of("0123456789");
  if (digit == absl::string_view::npos) {
    return "";
  }
  version.remove_prefix(digit);
  const size_t end = std::min(version.find_first_not_of("0123456789"), version.size());
  return std::string(version.substr(0, end));
}

// A job of the volume's image with /vibe/out and /vibe/run; without /vibe/data yet.
ContainerJob MakeJob(const Plan& plan, const VolumeUser& volume_user, const char* script,
                     const struct stat& owner, const fs::path& work) {
  ContainerJob job;
  job.ns = plan.containerd_namespace;
  job.image = volume_user.service->image;
  job.cgroup = fs::path(volume_user.service->cgroup).parent_path();
  job.command = {"/bin/sh", "-c", script};
  job.env = {{"PGDATA", kData},
             {"PGHOST", kRun},
             {"PGUSER", Superuser(*volume_user.service)},
             {"HOME", kRun}};
  job.user = absl::StrCat(owner.st_uid, ":", owner.st_gid);
  job.mounts = {{"bind", work.string(), kOut, {"rbind", "rw"}},
                {"tmpfs", "tmpfs", kRun, {"nosuid", "nodev", "mode=1777", "size=16m"}}};
  job.timeout = kDumpLimit;
  return job;
}

absl::Status RunWell(const Platform& platform, const ContainerJob& job, const fs::path& work,
                     const char* what, std::stop_token stop) {
  VIBE_ASSIGN_OR_RETURN(const uint32_t code, RunJob(platform, job, stop));
  if (code == 0) {
    return absl::OkStatus();
  }
  std::vector<std::string> log = LastLines(work / "log");
  return WithLog(
      absl::InternalError(absl::StrCat(what, " ended with ", code,
                                       log.empty() ? "" : absl::StrCat(": ", log.back()))),
      log);
}

absl::Status MakeOwned(const fs::path& folder, const struct stat& owner) {
  VIBE_RETURN_IF_ERROR(MakeDirectories(folder, 0700));
  return ::lchown(folder.c_str(), owner.st_uid, owner.st_gid) == 0
             ? absl::OkStatus()
             : ErrnoError(errno, absl::StrCat("set the owner of ", folder.string()));
}

// Everything in `folder` belongs to the cluster's user.
absl::Status GiveFiles(const fs::path& folder, const struct stat& owner) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    if (::lchown(entry.path().c_str(), owner.st_uid, owner.st_gid) != 0) {
      return ErrnoError(errno, absl::StrCat("set the owner of ", entry.path().string()));
    }
  }
  return absl::OkStatus();
}

// The major versions of the cluster and of the volume's image; both empty without a cluster that
// somebody uses. `work` is the caller's to remove.
struct Versions {
  std::string has, wants;
  struct stat owner {};  // of the cluster
  bool match() const { return wants.empty() || has == wants; }
};
absl::StatusOr<Versions> VersionsOf(const Platform& platform, const Plan& plan,
                                    const VolumeUser& volume_user,
                                    const std::optional<fs::path>& cluster, const fs::path& work,
                                    std::stop_token stop) {
  struct stat owner {};
  if (volume_user.service == nullptr || !cluster ||
      ::lstat((*cluster / "PG_VERSION").c_str(), &owner) != 0) {
    return Versions();
  }
  VIBE_RETURN_IF_ERROR(MakeOwned(work, owner));
  VIBE_RETURN_IF_ERROR(RunWell(platform, MakeJob(plan, volume_user, kVersionScript, owner, work),
                               work, "postgres --version", stop));
  VIBE_ASSIGN_OR_RETURN(const std::string said, ReadFile(work / "version", kMaxLog));
  VIBE_ASSIGN_OR_RETURN(const std::string has, ReadFile(*cluster / "PG_VERSION", kMaxLog));
  return Versions{MajorOf(has), MajorOf(said), owner};
}

absl::Status NoDump(const Plan& plan, const std::string& volume, const Versions& versions,
                    const absl::Status& why) {
  return WithAdvice(
      absl::FailedPreconditionError(absl::StrCat("the volume ", volume, " is of Postgres ",
                                                 versions.has, ", the image has ", versions.wants,
                                                 ", and there is no dump: ", why.message())),
      absl::StrCat("open a version of the app that has Postgres ", versions.has,
                   " with `vibe open FOLDER --name ", plan.project_name, "`, and restore again"));
}

}  // namespace

VolumeUser FindVolumeUser(const Plan& plan, const std::string& volume) {
  const std::string end = absl::StrCat("/current/volumes/", volume);
  for (const PlannedService& service : plan.services) {
    for (const PlannedMount& mount : service.mounts) {
      if (mount.type == "bind" && absl::EndsWith(mount.source, end)) {
        return {&service, mount.target};
      }
    }
  }
  return {};
}

std::string Superuser(const PlannedService& service) {
  const auto user = service.env.find("POSTGRES_USER");
  return user == service.env.end() || user->second.empty() ? "postgres" : user->second;
}

absl::StatusOr<fs::path> DumpPostgres(const Platform& platform, const Plan& plan,
                                      const VolumeUser& volume_user, state::SnapshotStore& store,
                                      const std::string& snapshot_id, const std::string& volume,
                                      std::stop_token stop) {
  if (volume_user.service == nullptr) {
    return absl::FailedPreconditionError("no service uses the volume");
  }
  VIBE_ASSIGN_OR_RETURN(const state::SnapshotClone clone, store.Clone(snapshot_id));
  const fs::path root = clone.path() / "volumes" / volume;
  const std::optional<fs::path> cluster = FindCluster(root, kMaxDepth);
  struct stat info {};
  if (!cluster || ::lstat((*cluster / "PG_VERSION").c_str(), &info) != 0) {
    return absl::FailedPreconditionError("there is no Postgres cluster in the volume yet");
  }
  VIBE_ASSIGN_OR_RETURN(const fs::path dump, store.StageDump());
  const fs::path work = dump.string() + ".work";
  const absl::Cleanup clear = [&] { RemoveAll(work).IgnoreError(); };
  VIBE_RETURN_IF_ERROR(MakeOwned(work, info));
  ContainerJob job = MakeJob(plan, volume_user, kScript, info, work);
  job.env["PGDATA"] = (fs::path(kData) / cluster->lexically_relative(root)).lexically_normal();
  job.mounts.push_back({"bind", root.string(), kData, {"rbind", "rw"}});
  VIBE_RETURN_IF_ERROR(RunWell(platform, job, work, "the dump", stop));
  VIBE_RETURN_IF_ERROR(WriteTar(work, dump));
  return dump;
}

absl::Status CheckPostgresVersion(const Platform& platform, const Plan& plan,
                                  const VolumeUser& volume_user, const fs::path& state,
                                  const std::string& volume, const absl::Status& no_dump,
                                  const fs::path& work) {
  const absl::Cleanup clear = [&] { RemoveAll(work).IgnoreError(); };
  VIBE_ASSIGN_OR_RETURN(const Versions versions,
                        VersionsOf(platform, plan, volume_user,
                                   FindCluster(state / "volumes" / volume, kMaxDepth), work, {}));
  return versions.match() ? absl::OkStatus() : NoDump(plan, volume, versions, no_dump);
}

absl::Status MatchPostgresVersion(const Platform& platform, const Plan& plan,
                                  const VolumeUser& volume_user, const fs::path& state,
                                  const std::string& volume, const absl::StatusOr<fs::path>& dump,
                                  std::stop_token stop) {
  const std::optional<fs::path> cluster = FindCluster(state / "volumes" / volume, kMaxDepth);
  // In the clone, which goes when this fails.
  const fs::path work = state / ".vibe-postgres";
  const absl::Cleanup clear = [&] { RemoveAll(work).IgnoreError(); };
  VIBE_ASSIGN_OR_RETURN(const Versions versions,
                        VersionsOf(platform, plan, volume_user, cluster, work, stop));
  if (versions.match()) {
    return absl::OkStatus();
  }
  if (!dump.ok()) {
    return NoDump(plan, volume, versions, dump.status());
  }
  const struct stat& owner = versions.owner;
  VIBE_RETURN_IF_ERROR(RemoveAll(work));
  VIBE_RETURN_IF_ERROR(MakeOwned(work, owner));
  VIBE_RETURN_IF_ERROR(ReadTar(*dump, work));
  for (const char* file : {"postgresql.conf", "postgresql.auto.conf"}) {
    std::error_code error;
    if (fs::is_regular_file(fs::symlink_status(*cluster / file, error))) {
      VIBE_ASSIGN_OR_RETURN(const std::string settings, ReadFile(*cluster / file, kMaxSettings));
      VIBE_RETURN_IF_ERROR(ReplaceFile(work / absl::StrCat(file, ".old"), settings, 0600));
    }
  }
  VIBE_RETURN_IF_ERROR(GiveFiles(work, owner));
  const fs::path fresh = cluster->string() + ".vibe-new";
  VIBE_RETURN_IF_ERROR(MakeOwned(fresh, owner));
  ContainerJob job = MakeJob(plan, volume_user, kLoadScript, owner, work);
  job.mounts.push_back({"bind", fresh.string(), kData, {"rbind", "rw"}});
  VIBE_RETURN_IF_ERROR(RunWell(platform, job, work, "loading the dump", stop));
  std::error_code error;
  for (const char* file : {"pg_hba.conf", "pg_ident.conf"}) {
    if (fs::is_regular_file(fs::symlink_status(*cluster / file, error))) {
      fs::rename(*cluster / file, fresh / file, error);
      if (error) {
        return ErrnoError(error.value(), absl::StrCat("keep ", file));
      }
    }
  }
  VIBE_RETURN_IF_ERROR(RemoveAll(*cluster));
  fs::rename(fresh, *cluster, error);
  return error ? ErrnoError(error.value(), "put the new cluster in its place") : absl::OkStatus();
}

}  // namespace vibe::supervisor
