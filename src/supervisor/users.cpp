#include <algorithm>
#include <limits>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "supervisor/runtime_spec.h"

namespace vibe::supervisor {
namespace {

constexpr size_t kMaxGroups = 1000;

// Ids above this cannot be given to a process.
std::optional<uint32_t> ParseId(absl::string_view text) {
  uint32_t id = 0;
  if (text.empty() || text.find_first_not_of("0123456789") != absl::string_view::npos ||
      !absl::SimpleAtoi(text, &id) ||
      id > static_cast<uint32_t>(std::numeric_limits<int32_t>::max())) {
    return std::nullopt;
  }
  return id;
}

struct PasswdEntry {
  std::string name;
  uint32_t uid = 0, gid = 0;
  std::string home;
};

// By name first, then by number, as useradd allows names of digits.
std::optional<PasswdEntry> FindUser(absl::string_view user, absl::string_view passwd) {
  const std::optional<uint32_t> wanted = ParseId(user);
  std::optional<PasswdEntry> by_number;
  for (const absl::string_view line : absl::StrSplit(passwd, '\n')) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, ':');
    if (fields.size() < 6) {
      continue;
    }
    const auto uid = ParseId(fields[2]);
    const auto gid = ParseId(fields[3]);
    if (!uid || !gid) {
      continue;
    }
    const PasswdEntry entry{std::string(fields[0]), *uid, *gid, std::string(fields[5])};
    if (fields[0] == user) {
      return entry;
    }
    if (wanted == uid && !by_number) {
      by_number = entry;
    }
  }
  return by_number;
}

std::optional<uint32_t> FindGroup(absl::string_view name, absl::string_view group) {
  for (const absl::string_view line : absl::StrSplit(group, '\n')) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, ':');
    if (fields.size() >= 3 && fields[0] == name) {
      return ParseId(fields[2]);
    }
  }
  return ParseId(name);
}

std::vector<uint32_t> GroupsOf(absl::string_view user, uint32_t gid, absl::string_view group) {
  std::vector<uint32_t> groups;
  for (const absl::string_view line : absl::StrSplit(group, '\n')) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, ':');
    const auto id = fields.size() >= 4 ? ParseId(fields[2]) : std::nullopt;
    if (!id || *id == gid || groups.size() >= kMaxGroups) {
      continue;
    }
    for (const absl::string_view member : absl::StrSplit(fields[3], ',')) {
      if (member == user && std::find(groups.begin(), groups.end(), *id) == groups.end()) {
        groups.push_back(*id);
      }
    }
  }
  return groups;
}

}  // namespace

absl::StatusOr<ResolvedUser> ResolveUser(const std::string& user, const std::string& passwd,
                                         const std::string& group) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(user, absl::MaxSplits(':', 1));
  const absl::string_view name = parts.first.empty() ? "0" : parts.first;
  ResolvedUser resolved;
  const std::optional<PasswdEntry> entry = FindUser(name, passwd);
  if (entry) {
    resolved.uid = entry->uid;
    resolved.gid = entry->gid;
    resolved.home = entry->home.empty() ? "/" : entry->home;
  } else if (const auto uid = ParseId(name)) {
    resolved.uid = *uid;
    resolved.home = *uid == 0 ? "/root" : "/";
  } else {
    return absl::NotFoundError(absl::StrCat("the image has no user called ", name));
  }
  if (!parts.second.empty()) {
    const auto gid = FindGroup(parts.second, group);
    if (!gid) {
      return absl::NotFoundError(absl::StrCat("the image has no group called ", parts.second));
    }
    resolved.gid = *gid;
  } else if (entry) {
    resolved.groups = GroupsOf(entry->name, entry->gid, group);
  }
  return resolved;
}

}  // namespace vibe::supervisor
