// What makes a snapshot of a database cheap to open, done before it and without a pause: as far as
// it goes in a bounded time, and no matter whether it does. Thread-safe; blocking.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "state/metadata.h"

namespace vibe::supervisor {

// Writes the WALs of SQLite databases into them where nobody holds their locks. What is left is in
// the WAL, which is part of the snapshot.
void SettleSqlite(const std::filesystem::path& volumes,
                  const std::map<std::string, state::Consistency>& kinds);

}  // namespace vibe::supervisor
