// What a directory holds, as one SHA-256. Two trees have the same digest exactly when they hold the
// same names (bytes, of any encoding), types, modes, owners, extended attributes, symlink targets,
// device numbers, file contents, and the same files are hard links of each other. Times, inode
// numbers and where the holes of a sparse file are do not count; sockets and fifos are left out.
// docs/formats/state.md has the encoding.
//
// The tree must not change meanwhile: give it a read-only snapshot. Holes cost nothing. Memory, in
// any tree: names as DigestLimits says (a larger directory is listed several times, a part of its
// names each), and some 50 bytes for each file with several links.
// Thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace vibe::state {

struct DigestLimits {
  int max_depth = 4096;                   // directories below each other
  uint64_t max_entries = 50'000'000;      // of the whole tree
  uint64_t max_xattr_bytes = 1ULL << 20;  // of one file
  uint64_t max_linked = 4'000'000;        // files with several links
  size_t max_omitted_bytes = 16 << 10;    // of the paths of sockets and fifos, 64 more for each
  size_t name_memory = 64ULL << 20;       // bytes; 16 KiB of each level at most come on top
};

struct TreeDigest {
  std::string digest;       // "sha256:<64 hex>"
  uint64_t size_bytes = 0;  // sum of the files' lengths, each inode once
  uint64_t entries = 0;     // of every type, the root not counted
  uint64_t omitted = 0;     // sockets and fifos
  // Their paths (bytes) from the root; nullopt when there are too many to name.
  std::optional<std::vector<std::string>> omitted_paths = std::vector<std::string>();
  uint64_t nested_subvolumes = 0;  // empty directories where subvolumes were: their files are not
                                   // in the snapshot
};

// `directory` stays the caller's; other descriptors of the same directory are not disturbed.
// Cancelled when `stop` asks for it; ResourceExhausted at a limit, naming the path;
// DataLoss when a file cannot be read (btrfs: checksum error), naming the path.
absl::StatusOr<TreeDigest> DigestTree(int directory, std::stop_token stop,
                                      const DigestLimits& limits = {});

struct StateDigest {
  std::string digest;                         // "sha256:<64 hex>", over all of the below
  TreeDigest rest;                            // all but what is in volumes/
  std::map<std::string, TreeDigest> volumes;  // by name, those that are there
};

// The digest of a project's `current/` or of a snapshot of it: each folder in volumes/ for itself,
// so that a volume can be checked alone.
absl::StatusOr<StateDigest> DigestState(int state, std::stop_token stop,
                                        const DigestLimits& limits = {});

}  // namespace vibe::state
