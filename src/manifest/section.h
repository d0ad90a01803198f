// One mapping of the manifest while its keys are read: it learns the known keys from what it is
// asked for, and reports the others at the end.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "manifest/diagnostics.h"
#include "manifest/document.h"
#include "manifest/values.h"

namespace vibe::manifest {

class Section {
 public:
  // Reports when `value` is no mapping; the section then has no keys, and nothing is said to be
  // missing.
  Section(const Value& value, absl::string_view example, Diagnostics& diagnostics);

  // The value of `key`; nothing when it is absent or empty ("key:").
  std::optional<Value> Find(absl::string_view key);

  // As Find, and reports when there is nothing. `example` shows how to write it.
  std::optional<Value> Require(absl::string_view key, absl::string_view example);

  // As Find, for a spelling that is read but never proposed.
  std::optional<Value> FindOldSpelling(absl::string_view key);

  // Reports every key that was not asked for. Call it last, once.
  void RefuseUnknownKeys();

  std::string PathOf(absl::string_view key) const { return ChildPath(place_.path, key); }
  const Place& place() const { return place_; }
  Diagnostics& diagnostics() { return diagnostics_; }

 private:
  const Entry* EntryOf(absl::string_view key) const;

  const TreeNode* node_ = nullptr;  // null: no mapping
  Place place_;
  Diagnostics& diagnostics_;
  std::vector<absl::string_view> known_;
  std::vector<absl::string_view> old_spellings_;
};

}  // namespace vibe::manifest
