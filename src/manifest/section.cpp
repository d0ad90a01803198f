#include "manifest/section.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "manifest/nearest.h"

namespace vibe::manifest {
namespace {

// Words that other formats use, and keys that people look for in the wrong place.
struct Hint {
  absl::string_view key;
  absl::string_view text;
};

constexpr std::array<Hint, 19> kHints = {{
    {"environment", "a service's environment is `env`"},
    {"volumes",
     "a service's volumes are `mounts` or `stateVolumes`; `state.volumes` declares them"},
    {"build", "give the service an `image`"},
    {"cpus", "it belongs into `resources` of a service"},
    {"memory", "it belongs into `resources` of a service"},
    {"mem_limit", "write `resources: {memory: …}`"},
    {"deploy", "limits are `resources` of a service"},
    {"network", "write `security: {network: true}`"},
    {"networks",
     "all services of an app are on one network; internet access is `security: {network: true}`"},
    {"network_mode", "internet access is `security: {network: true}`"},
    {"allowHostFileImport", "it belongs into `security`"},
    {"autosave", "it belongs into `state`"},
    {"maxSnapshots", "it belongs into `state.retention`"},
    {"composeFile", "it belongs into `runtime`"},
    {"mode", "it belongs into `runtime`"},
    {"signing", "it belongs into `publisher`"},
    {"expose",
     "a port that the host does not get is `ports: [{container: N, hostExposure: none}]`"},
    {"hostPort", "vibe chooses the host's port; `hostExposure` says whether there is one"},
    {"host", "vibe chooses the host's port; `hostExposure` says whether there is one"},
}};

absl::string_view HintFor(absl::string_view key) {
  const auto* const hint = std::find_if(kHints.begin(), kHints.end(),
                                        [&](const Hint& known) { return known.key == key; });
  return hint == kHints.end() ? absl::string_view() : hint->text;
}

bool Contains(const std::vector<absl::string_view>& words, absl::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

}  // namespace

Section::Section(const Value& value, absl::string_view example, Diagnostics& diagnostics)
    : place_(value.place), diagnostics_(diagnostics) {
  if (IsMapping(value, example, diagnostics)) {
    node_ = value.node;
  }
}

const Entry* Section::EntryOf(absl::string_view key) const {
  if (node_ == nullptr) {
    return nullptr;
  }
  const auto found = std::find_if(node_->entries.begin(), node_->entries.end(),
                                  [&](const Entry& entry) { return entry.key == key; });
  return found == node_->entries.end() ? nullptr : &*found;
}

std::optional<Value> Section::Find(absl::string_view key) {
  if (!Contains(known_, key)) {
    known_.push_back(key);
  }
  const Entry* entry = EntryOf(key);
  if (entry == nullptr || entry->value.kind == TreeNode::Kind::kNull) {
    return std::nullopt;
  }
  return ValueOf(*entry, PathOf(key));
}

std::optional<Value> Section::Require(absl::string_view key, absl::string_view example) {
  std::optional<Value> value = Find(key);
  if (!value && node_ != nullptr) {
    const Entry* entry = EntryOf(key);
    diagnostics_.Error(
        {entry != nullptr ? entry->key_offset : place_.offset, PathOf(key)},
        absl::StrCat(entry != nullptr ? "is empty" : "is missing", ": write it as ", example));
  }
  return value;
}

std::optional<Value> Section::FindOldSpelling(absl::string_view key) {
  old_spellings_.push_back(key);
  const Entry* entry = EntryOf(key);
  if (entry == nullptr || entry->value.kind == TreeNode::Kind::kNull) {
    return std::nullopt;
  }
  return ValueOf(*entry, PathOf(key));
}

void Section::RefuseUnknownKeys() {
  if (node_ == nullptr) {
    return;
  }
  for (const Entry& entry : node_->entries) {
    if (Contains(known_, entry.key) || Contains(old_spellings_, entry.key)) {
      continue;
    }
    if (diagnostics_.is_full()) {  // then the search for a near word would be wasted
      diagnostics_.Error(Place(), "");
      continue;
    }
    const absl::string_view nearest = Nearest(entry.key, known_);
    const absl::string_view hint = HintFor(entry.key);
    std::string message = absl::StrCat("unknown key ", Quoted(entry.key));
    if (nearest.empty() && !hint.empty()) {
      absl::StrAppend(&message, ": ", hint);
    } else {
      absl::StrAppend(&message, Suggestion(entry.key, known_));
    }
    diagnostics_.Error({entry.key_offset, PathOf(entry.key)}, std::move(message));
  }
}

}  // namespace vibe::manifest
