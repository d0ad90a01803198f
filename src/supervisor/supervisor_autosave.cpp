// Saves without being asked, for the projects whose manifest wants it.
#include <fcntl.h>

#include <map>

#include "absl/time/clock.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "spdlog/spdlog.h"
#include "state/subvolume.h"
#include "supervisor/autosave.h"
#include "supervisor/supervisor.h"

namespace vibe::supervisor {
namespace {

// The file system counts changes when it commits, every half minute or when somebody syncs: looking
// more often finds nothing sooner.
constexpr absl::Duration kLook = absl::Seconds(2);

absl::StatusOr<uint64_t> LastChange(const std::filesystem::path& project) {
  const UniqueFd folder(::open(project.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) {
    return ErrnoError(errno, "open the project");
  }
  VIBE_ASSIGN_OR_RETURN(const UniqueFd current, state::OpenSubvolume(folder.get(), "current"));
  VIBE_ASSIGN_OR_RETURN(const state::SubvolumeInfo info, state::GetSubvolumeInfo(current.get()));
  return info.change_generation;
}

}  // namespace

void Supervisor::AutosaveIfDue(const ProjectRecord& record, AutosaveClock& clock) {
  const auto manifest = ManifestOf(record);
  if (!manifest.ok() || !manifest->state.autosave) {
    return;
  }
  if (!AwaitRecovered(record.id, absl::ZeroDuration()).ok()) {
    return;
  }
  const auto store = StateOf(record.id);
  const auto change = LastChange(DirectoryOf(record.id));
  if (!store.ok() || !change.ok()) {
    return;
  }
  const absl::StatusOr<bool> changed = (*store)->ChangedSinceSnapshot();
  if (!changed.ok() || !clock.Tick(absl::Now(), *changed, *change,
                                   absl::Seconds(manifest->state.autosave_debounce_seconds))) {
    return;
  }
  const std::shared_ptr<Entry> entry = EntryOf(record.id);
  if (!entry->operation.TryLock()) {
    return;  // it is being started, saved, …: the next look is soon
  }
  if (const auto now = HeldRecord(record.id); now.ok()) {
    SaveCall call;
    call.request.reason = state::SnapshotReason::kAutosave;
    call.cancelled = [&] { return Closing() || entry->stops > 0; };
    const auto saved = Save(*now, std::move(call), [](const v1::Progress&) {});
    if (!saved.ok()) {
      spdlog::warn("autosave: {}", saved.status().ToString());
    }
    clock.Saved(absl::Now());
  }
  entry->operation.Unlock();
}

void Supervisor::KeepSaved() {
  const auto closing = [this] {
    mutex_.AssertReaderHeld();
    return closing_;
  };
  std::map<std::string, AutosaveClock> clocks;
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      if (mutex_.AwaitWithTimeout(absl::Condition(&closing), kLook)) {
        return;
      }
    }
    const auto records = store_->List();
    if (!records.ok()) {
      continue;
    }
    std::map<std::string, AutosaveClock> kept;
    for (const ProjectRecord& record : *records) {
      AutosaveClock& clock = kept[record.id] = clocks[record.id];
      AutosaveIfDue(record, clock);
    }
    clocks = std::move(kept);
  }
}

}  // namespace vibe::supervisor
