// For threads whose work nobody waits for. Thread-safe.
#pragma once

namespace vibe::state {

// The calling thread, and the processes that it starts from now on, come after all others for the
// processor and for the disk: an app must not notice them. They are not starved, since they hold
// locks of the file system at times.
void GiveWay();

// While one exists, an app stands still or somebody waits for a save, a restore or a copy: no
// background thread of this process reads from the disk that they wait for.
class QuietDisk {
 public:
  QuietDisk();
  ~QuietDisk();
  QuietDisk(const QuietDisk&) = delete;
  QuietDisk& operator=(const QuietDisk&) = delete;
};

// Returns when there is none, or ten seconds after the last one began: a disk that hangs, or a dump
// that is loaded for an hour, must not be waited for.
// Called between two small pieces of work.
void AwaitTurn();

}  // namespace vibe::state
