#include "cli/snapshot.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "cli/table.h"
#include "cli/text.h"

namespace vibe::cli {
namespace {

constexpr size_t kShownId = 8;  // enough to name one; vibed takes the beginning of an id

std::string Age(const std::string& time, absl::Time now) {
  absl::Time taken;
  std::string error;
  return absl::ParseTime(absl::RFC3339_full, time, &taken, &error) ? FormatAge(now - taken) : "-";
}

std::string Size(const Json& snapshot) {
  return BoolAt(snapshot, "complete") ? FormatBytes(UnsignedAt(snapshot, "sizeBytes")) : "checking";
}

std::string Notes(const Json& snapshot) {
  std::vector<std::string> words;
  if (const std::string message = StringAt(snapshot, "message"); !message.empty()) {
    words.push_back(Escape(message));
  }
  for (const auto& [key, value] : ObjectAt(snapshot, "labels").items()) {
    if (value.is_string()) {
      words.push_back(Escape(absl::StrCat(key, "=", value.get<std::string>())));
    }
  }
  return absl::StrJoin(words, ", ");
}

// What a user should know before trusting a snapshot.
std::string Complaints(const Json& snapshot) {
  std::string out;
  const std::string id = StringAt(snapshot, "id").substr(0, kShownId);
  const auto add = [&](const std::string& text) {
    absl::StrAppend(&out, Escape(id), ": ", Escape(text), "\n");
  };
  if (const std::string problem = StringAt(snapshot, "problem"); !problem.empty()) {
    add(absl::StrCat("cannot be restored: ", problem));
  }
  for (const Json& warning : ArrayAt(snapshot, "warnings")) {
    if (warning.is_string()) {
      add(warning.get<std::string>());
    }
  }
  for (const Json& volume : ArrayAt(snapshot, "volumes")) {
    const std::string name = absl::StrCat("volume ", StringAt(volume, "name"), ": ");
    if (const std::string check = StringAt(volume, "integrityCheck");
        !check.empty() && check != "ok") {
      add(absl::StrCat(name, "a SQLite database is damaged: ", check));
    }
    if (const std::string problem = StringAt(volume, "problem"); !problem.empty()) {
      add(absl::StrCat(name, problem));
    }
  }
  return out;
}

}  // namespace

std::string RenderSnapshots(const Json& snapshots, const TableStyle& style) {
  if (snapshots.empty()) {
    return "There are no snapshots. `vibe save NAME` takes one.\n";
  }
  std::vector<std::vector<Cell>> rows;
  std::string complaints;
  for (const Json& snapshot : snapshots) {
    rows.push_back({{Escape(StringAt(snapshot, "id").substr(0, kShownId)), ""},
                    {Age(StringAt(snapshot, "time"), style.now), ""},
                    {Escape(StringAt(snapshot, "reason")), ""},
                    {Size(snapshot), ""},
                    {Escape(StringAt(snapshot, "appVersion")), ""},
                    {Notes(snapshot), ""}});
    complaints += Complaints(snapshot);
  }
  return absl::StrCat(
      RenderTable({"ID", "AGE", "REASON", "SIZE", "VERSION", "MESSAGE"}, rows, style.width),
      complaints);
}

}  // namespace vibe::cli
