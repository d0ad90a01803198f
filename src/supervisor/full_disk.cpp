#include "supervisor/full_disk.h"

#include <sys/statvfs.h>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "base/status.h"

namespace vibe::supervisor {
namespace {

constexpr char kAdvice[] =
    "the machine's disk is full: remove snapshots with `vibe snapshot rm` or projects with `vibe "
    "rm`. When not even that is possible, give the machine a larger \"disk\" in machine.json and "
    "run "
    "`vibe machine restart`";

// A native machine whose disk's file could take no more ends, and runs again by itself when there
// is room; qemu's guest waits for room and sees no error. What is left is a disk that fails, after
// which btrfs writes nothing more until it is mounted anew.
constexpr char kFailedAdvice[] =
    "the disk that holds the machine's is full or failed: make space on this computer and try "
    "again; the machine goes on by itself when there is room. If the error stays, run `vibe "
    "machine restart`";

std::string Size(uint64_t bytes) {
  constexpr double kMega = 1e6, kGiga = 1e9;
  const auto value = static_cast<double>(bytes);
  return value < kGiga ? absl::StrFormat("%.1f MB", value / kMega)
                       : absl::StrFormat("%.1f GB", value / kGiga);
}

}  // namespace

absl::Status MarkFullDisk(absl::Status status) {
  if (status.ok() || ReasonOf(status) == Reason::kDiskLow) {
    return status;
  }
  const std::string text = absl::AsciiStrToLower(status.message());
  for (const char* sign :
       {"no space left on device", "disk quota exceeded", "database or disk is full"}) {
    if (absl::StrContains(text, sign)) {
      return WithAdvice(WithReason(std::move(status), Reason::kDiskLow), kAdvice);
    }
  }
  for (const char* sign : {"input/output error", "read-only file system"}) {
    if (absl::StrContains(text, sign)) {
      return WithAdvice(std::move(status), kFailedAdvice);
    }
  }
  return status;
}

absl::Status WithFreeSpace(absl::Status status, const std::filesystem::path& path) {
  status = MarkFullDisk(std::move(status));
  struct statvfs disk {};
  if (status.ok() || ReasonOf(status) != Reason::kDiskLow || ::statvfs(path.c_str(), &disk) != 0) {
    return status;
  }
  return Annotate(status, absl::StrFormat("the machine's disk is full (%s of %s free)",
                                          Size(uint64_t{disk.f_bavail} * disk.f_frsize),
                                          Size(uint64_t{disk.f_blocks} * disk.f_frsize)));
}

}  // namespace vibe::supervisor
