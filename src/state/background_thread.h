// For threads whose work nobody waits for. Thread-safe.
#pragma once

namespace vibe::state {

// The calling thread, and the processes that it starts from now on, come after all others for the
// processor and for the disk: an app must not notice them. They are not starved, since they hold
// locks of the file system at times.
void GiveWay();

}  // namespace vibe::state
