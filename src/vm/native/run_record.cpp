#include "vm/native/run_record.h"

#include <cerrno>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "base/status.h"

extern "C" {
#include <sys/pidfd.h>  // glibc 2.36 forgets to say that these are C
}

namespace vibe::vm::native {

std::string FormatRecord(const RunRecord& record) {
  return absl::StrCat(record.pid, " ", record.start_time, " ", record.boot_id, "\n");
}

absl::StatusOr<RunRecord> ParseRecord(absl::string_view text) {
  const std::vector<absl::string_view> fields =
      absl::StrSplit(absl::StripAsciiWhitespace(text), ' ');
  RunRecord record;
  if (fields.size() != 3 || !absl::SimpleAtoi(fields[0], &record.pid) || record.pid <= 0 ||
      !absl::SimpleAtoi(fields[1], &record.start_time) || fields[2].empty()) {
    return absl::InvalidArgumentError("not the record of a process");
  }
  record.boot_id = std::string(fields[2]);
  return record;
}

absl::StatusOr<uint64_t> ParseStartTime(absl::string_view stat) {
  // The second field is the program's name in parentheses and may hold spaces and parentheses.
  const size_t name_end = stat.rfind(')');
  if (name_end == absl::string_view::npos) {
    return absl::InvalidArgumentError("not a process's stat");
  }
  const std::vector<absl::string_view> fields =
      absl::StrSplit(stat.substr(name_end + 1), ' ', absl::SkipEmpty());
  constexpr size_t kState = 0, kStartTime = 19;  // fields 3 and 22 of proc(5)
  uint64_t start_time = 0;
  if (fields.size() <= kStartTime || !absl::SimpleAtoi(fields[kStartTime], &start_time)) {
    return absl::InvalidArgumentError("not a process's stat");
  }
  if (fields[kState] == "Z" || fields[kState] == "X") {
    return absl::NotFoundError("the process has ended");
  }
  return start_time;
}

absl::StatusOr<RunRecord> RecordOf(pid_t pid) {
  VIBE_ASSIGN_OR_RETURN(const std::string stat,
                        ReadFile(absl::StrCat("/proc/", pid, "/stat"), 64 << 10));
  VIBE_ASSIGN_OR_RETURN(const uint64_t start_time, ParseStartTime(stat));
  VIBE_ASSIGN_OR_RETURN(const std::string boot_id,
                        ReadFile("/proc/sys/kernel/random/boot_id", 1 << 10));
  return RunRecord{.pid = pid,
                   .start_time = start_time,
                   .boot_id = std::string(absl::StripAsciiWhitespace(boot_id))};
}

absl::StatusOr<UniqueFd> OpenProcess(const RunRecord& record) {
  // The descriptor first: what is read afterwards is about the same process, or the process is
  // gone.
  UniqueFd process(::pidfd_open(record.pid, 0));
  if (!process.valid()) {
    return errno == ESRCH ? absl::NotFoundError("the process is gone")
                          : ErrnoError(errno, absl::StrCat("open process ", record.pid));
  }
  const absl::StatusOr<RunRecord> now = RecordOf(record.pid);
  if (!now.ok() || *now != record) {
    return absl::NotFoundError("the process is gone");
  }
  return process;
}

absl::StatusOr<UniqueFd> OpenRecordedProcess(const std::filesystem::path& path) {
  const absl::StatusOr<std::string> text = ReadFile(path, 4 << 10);
  if (!text.ok()) {
    return absl::NotFoundError(text.status().message());
  }
  const absl::StatusOr<RunRecord> record = ParseRecord(*text);
  if (!record.ok()) {
    return absl::NotFoundError(absl::StrCat(path.string(), ": ", record.status().message()));
  }
  return OpenProcess(*record);
}

}  // namespace vibe::vm::native
