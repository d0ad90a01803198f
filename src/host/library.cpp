#include "host/library.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/file.h"
#include "base/status.h"

namespace vibe::host {
namespace {

namespace fs = std::filesystem;

constexpr char kFileName[] = "project.json";
constexpr uint64_t kMaxFileBytes = 4 << 20;

absl::StatusOr<ProjectRecord> LoadOne(const fs::path& directory) {
  VIBE_ASSIGN_OR_RETURN(const std::string text, ReadFile(directory / kFileName, kMaxFileBytes));
  VIBE_ASSIGN_OR_RETURN(ProjectRecord record, RecordFromJson(text));
  if (record.id != directory.filename()) {
    return absl::DataLossError("its id is not its folder's name");
  }
  return record;
}

bool Is(const ProjectRecord& record, absl::string_view ref) {
  return record.id == ref || record.name == ref;
}

absl::Status NoProject(absl::string_view ref, absl::string_view advice) {
  return WithAdvice(Error(absl::StatusCode::kNotFound, Reason::kNotFound,
                          absl::StrCat("there is no project called ", ref)),
                    advice);
}

constexpr char kSeePs[] = "`vibe ps` lists the projects";

}  // namespace

Library::Library(fs::path directory) : directory_(std::move(directory)) {}

absl::StatusOr<std::unique_ptr<Library>> Library::Load(fs::path directory) {
  VIBE_RETURN_IF_ERROR(MakeDirectories(directory, 0700));
  std::unique_ptr<Library> library(new Library(std::move(directory)));
  const absl::MutexLock lock(&library->mutex_);
  std::error_code error;
  for (fs::directory_iterator it(library->directory_, error), end; !error && it != end;
       it.increment(error)) {
    if (!IsUuid(it->path().filename().string())) {
      continue;
    }
    VIBE_RETURN_IF_ERROR(RemoveUnfinished(it->path()));
    absl::StatusOr<ProjectRecord> record = LoadOne(it->path());
    if (!record.ok()) {
      library->broken_ids_.insert(it->path().filename().string());
      library->broken_.push_back(
          absl::StrCat((it->path() / kFileName).string(), ": ", record.status().message()));
      continue;
    }
    const std::string id = record->id;
    library->records_[id] = std::move(record).value();
  }
  if (error) {
    return ErrnoError(error.value(), library->directory_.string());
  }
  return library;
}

std::vector<ProjectRecord> Library::All() const {
  return Sorted(/*removed=*/false);
}

std::vector<ProjectRecord> Library::Kept() const {
  return Sorted(/*removed=*/true);
}

std::vector<ProjectRecord> Library::Sorted(bool removed) const {
  std::vector<ProjectRecord> all;
  {
    const absl::MutexLock lock(&mutex_);
    for (const auto& [id, record] : records_) {
      if (record.removed == removed) {
        all.push_back(record);
      }
    }
  }
  std::sort(all.begin(), all.end(), [](const ProjectRecord& a, const ProjectRecord& b) {
    return std::tie(a.name, a.id) < std::tie(b.name, b.id);
  });
  return all;
}

absl::StatusOr<ProjectRecord> Library::Find(absl::string_view ref) const {
  const absl::MutexLock lock(&mutex_);
  bool kept = false;
  for (const auto& [id, record] : records_) {
    if (Is(record, ref)) {
      if (!record.removed) {
        return record;
      }
      kept = true;
    }
  }
  return NoProject(
      ref, kept ? absl::StrCat("it was removed and its data kept: `vibe open FOLDER --name ", ref,
                               "` brings it back, `vibe rm ", ref, "` deletes it")
                : kSeePs);
}

std::optional<ProjectRecord> Library::FindForOpen(absl::string_view name,
                                                  absl::string_view app_id) const {
  const absl::MutexLock lock(&mutex_);
  std::optional<ProjectRecord> kept;
  for (const auto& [id, record] : records_) {
    if (record.name != name) {
      continue;
    }
    if (!record.removed) {
      return record;
    }
    if (record.app_id == app_id) {
      kept = record;
    }
  }
  return kept;
}

absl::Status Library::Put(const ProjectRecord& record) {
  if (!IsUuid(record.id) || !IsProjectName(record.name)) {
    return absl::InternalError("a project needs a UUID and a valid name");
  }
  const absl::MutexLock lock(&mutex_);
  for (const auto& [id, other] : records_) {
    if (!record.removed && !other.removed && id != record.id && other.name == record.name) {
      return Error(absl::StatusCode::kAlreadyExists, Reason::kConflict,
                   absl::StrCat("another project is called ", record.name));
    }
  }
  const fs::path directory = directory_ / record.id;
  VIBE_RETURN_IF_ERROR(MakeDirectories(directory, 0700));
  VIBE_RETURN_IF_ERROR(ReplaceFile(directory / kFileName, RecordToJson(record), 0600));
  VIBE_RETURN_IF_ERROR(SyncDirectory(directory_));
  records_[record.id] = record;
  return absl::OkStatus();
}

absl::Status Library::Remove(const std::string& id) {
  if (!IsUuid(id)) {
    return absl::InternalError("a project is removed by its id");
  }
  const absl::MutexLock lock(&mutex_);
  VIBE_RETURN_IF_ERROR(RemoveAll(directory_ / id));
  VIBE_RETURN_IF_ERROR(SyncDirectory(directory_));
  records_.erase(id);
  return absl::OkStatus();
}

absl::Status Library::Clear() {
  const absl::MutexLock lock(&mutex_);
  while (!records_.empty()) {
    VIBE_RETURN_IF_ERROR(RemoveAll(directory_ / records_.begin()->first));
    records_.erase(records_.begin());
  }
  return SyncDirectory(directory_);
}

bool Library::Knows(absl::string_view id) const {
  const absl::MutexLock lock(&mutex_);
  return records_.count(std::string(id)) > 0 || broken_ids_.count(id) > 0;
}

absl::StatusOr<ProjectRecord> Library::FindKept(absl::string_view ref) const {
  std::vector<ProjectRecord> found;
  for (const ProjectRecord& record : Kept()) {
    if (Is(record, ref)) {
      found.push_back(record);
    }
  }
  if (found.size() == 1) {
    return found.front();
  }
  if (found.empty()) {
    return NoProject(ref, kSeePs);
  }
  const auto id = [](std::string* out, const ProjectRecord& record) {
    absl::StrAppend(out, record.id, " of ", record.app_id);
  };
  return WithAdvice(absl::InvalidArgumentError(absl::StrCat("several projects called ", ref,
                                                            " were removed and their data kept")),
                    absl::StrCat("give an id: ", absl::StrJoin(found, ", ", id)));
}

}  // namespace vibe::host
