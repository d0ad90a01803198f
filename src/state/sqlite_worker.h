// How the supervisor and its SQLite worker speak: arguments, exit codes, one line of output. Inside
// this room only.
#pragma once

namespace vibe::state {

// argv: PROGRAM kWorkerArgument MODE UID GID BUSY_MS MAX_MEMORY MAX_FILE_SIZE CPU_SECONDS /PATH
inline constexpr char kWorkerArgument[] = "--sqlite-worker";
inline constexpr char kCheckpointMode[] = "checkpoint";
inline constexpr char kCheckMode[] = "check";
inline constexpr int kWorkerArguments = 10;

inline constexpr int kWorkerVolumeFd = 3;     // open in the worker: the volume
inline constexpr int kWorkerNotConfined = 9;  // exit code: no database was opened

inline constexpr char kAnswerOk[] = "ok";
inline constexpr char kAnswerBusy[] = "busy";

}  // namespace vibe::state
