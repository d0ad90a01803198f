#include "vm/qemu/guest_memory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "vm/native/run_record.h"
#include "vm/qemu/command_line.h"

namespace vibe::vm::qemu {
namespace {

constexpr uint64_t kMaxChildrenBytes = 4 << 10;
constexpr size_t kChunk = 4 << 20;

absl::Status CopyRange(const UniqueFd& from, off_t begin, off_t end, const UniqueFd& to,
                       std::vector<char>& buffer, absl::Time deadline) {
  while (begin < end) {
    if (absl::Now() >= deadline) {
      return absl::DeadlineExceededError("copying the guest's memory takes too long");
    }
    const size_t wanted = std::min(buffer.size(), static_cast<size_t>(end - begin));
    const ssize_t count = ::pread(from.get(), buffer.data(), wanted, begin);
    if (count <= 0) {
      return ErrnoError(count == 0 ? EIO : errno, "read the guest's memory");
    }
    for (ssize_t done = 0; done < count;) {
      const ssize_t written =
          ::pwrite(to.get(), buffer.data() + done, static_cast<size_t>(count - done), begin + done);
      if (written < 0) {
        return ErrnoError(errno, "write the guest's memory to the disk");
      }
      done += written;
    }
    begin += count;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<UniqueFd> OpenGuestMemory(const Layout& layout) {
  VIBE_ASSIGN_OR_RETURN(const std::string children, ReadFile(layout.children(), kMaxChildrenBytes));
  // The first one is qemu.
  VIBE_ASSIGN_OR_RETURN(const native::RunRecord record,
                        native::ParseRecord(children.substr(0, children.find('\n'))));
  VIBE_RETURN_IF_ERROR(native::OpenProcess(record).status());
  const std::string path = absl::StrCat("/proc/", record.pid, "/fd/", kMemoryDescriptor);
  UniqueFd memory(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!memory.valid()) {
    return ErrnoError(errno, "open the guest's memory");
  }
  // Still the same process: what was opened is its memory.
  VIBE_RETURN_IF_ERROR(native::OpenProcess(record).status());
  return memory;
}

absl::Status CopyGuestMemory(const UniqueFd& memory, const std::filesystem::path& path,
                             absl::Time deadline) {
  struct stat info {};
  if (::fstat(memory.get(), &info) != 0) {
    return ErrnoError(errno, "look at the guest's memory");
  }
  const UniqueFd copy(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!copy.valid() || ::ftruncate(copy.get(), info.st_size) != 0) {
    return ErrnoError(errno, absl::StrCat("make ", path.string()));
  }
  std::vector<char> buffer(kChunk);
  for (off_t end = 0; end < info.st_size;) {
    const off_t begin = ::lseek(memory.get(), end, SEEK_DATA);
    if (begin < 0) {
      return errno == ENXIO ? absl::OkStatus()  // nothing but holes is left
                            : ErrnoError(errno, "read the guest's memory");
    }
    end = ::lseek(memory.get(), begin, SEEK_HOLE);
    if (end < 0) {
      return ErrnoError(errno, "read the guest's memory");
    }
    VIBE_RETURN_IF_ERROR(CopyRange(memory, begin, end, copy, buffer, deadline));
  }
  return absl::OkStatus();
}

}  // namespace vibe::vm::qemu
