// The library of projects on this computer: DIR/<id>/project.json, one file per project, replaced
// whole. Thread-safe; every change is on the disk when the call returns.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "host/project_record.h"

namespace vibe::host {

class Library {
 public:
  // Reads all projects. A file that cannot be read or understood is reported by broken() and left
  // alone.
  static absl::StatusOr<std::unique_ptr<Library>> Load(std::filesystem::path directory);

  // Sorted by name, without removed ones.
  std::vector<ProjectRecord> All() const;
  // By id or name; NOT_FOUND names what was asked.
  absl::StatusOr<ProjectRecord> Find(absl::string_view ref) const;
  // The project with that name; else one that was removed with its data kept, of the same app.
  std::optional<ProjectRecord> FindForOpen(absl::string_view name, absl::string_view app_id) const;

  // Adds or replaces by id. CONFLICT when another project has the name.
  absl::Status Put(const ProjectRecord& record);
  // Forgets a project; one that is not there is a success.
  absl::Status Remove(const std::string& id);
  // Forgets all, removed ones whose data was kept too. A file that could not be loaded stays.
  absl::Status Clear();
  // Whether there is a record of that id: of a removed project whose data was kept, and one that
  // could not be loaded, too.
  bool Knows(absl::string_view id) const;
  // Those that were removed with their data kept, sorted by name.
  std::vector<ProjectRecord> Kept() const;
  // One of those by id or name; INVALID_ARGUMENT names the ids when several have the name.
  absl::StatusOr<ProjectRecord> FindKept(absl::string_view ref) const;

  // One line for each file that could not be loaded.
  const std::vector<std::string>& broken() const { return broken_; }

 private:
  explicit Library(std::filesystem::path directory);
  std::vector<ProjectRecord> Sorted(bool removed) const;

  const std::filesystem::path directory_;
  std::vector<std::string> broken_;  // set by Load only
  std::set<std::string, std::less<>> broken_ids_;
  mutable absl::Mutex mutex_;
  std::map<std::string, ProjectRecord> records_ ABSL_GUARDED_BY(mutex_);  // by id
};

}  // namespace vibe::host
