// Named points at which a test can have the process killed, as a crash would kill it. They are in
// the library vibe_state_faults only; in vibe_state they are nothing.
//
// The environment says where: VIBE_FAULT=save.staged dies at the first such point,
// VIBE_FAULT=save.staged:3 at the third, VIBE_FAULT=*:17 at the seventeenth point of any name.
// Without that variable it is the first line of the file /run/vibe/fault, at any time; the point
// that dies of it takes it out first, so that the next process lives, or dies of the next line.
// "stop save.staged" has the process stand still there instead, and says so on the console: for a
// test that cuts the power of a virtual machine at that point.
#pragma once

#ifdef VIBE_STATE_FAULTS
#define VIBE_FAULT_POINT(name) ::vibe::state::FaultPoint(name)
#else
#define VIBE_FAULT_POINT(name) static_cast<void>(0)
#endif

namespace vibe::state {

#ifdef VIBE_STATE_FAULTS
void FaultPoint(const char* name);
#endif

}  // namespace vibe::state
