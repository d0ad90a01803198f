#pragma once

namespace vibe::supervisor {

inline constexpr char kVersion[] = VIBE_VERSION;  // of the project, set by the build

}  // namespace vibe::supervisor
