#include "state/file_content.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/status.h"
#include "state/background_thread.h"
#include "state/digest_encoder.h"

namespace vibe::state {
namespace {

constexpr uint64_t kBlock = 64 << 10;  // of the format
constexpr uint64_t kRead = 16 * kBlock;
// The pages of a snapshot are nobody else's: to keep them would push the apps' out of memory.
constexpr uint64_t kForget = 16ULL << 20;

bool IsZero(const char* bytes, size_t size) {
  return size == 0 || (bytes[0] == 0 && std::memcmp(bytes, bytes + 1, size - 1) == 0);
}

absl::Status ReadExactly(int fd, char* buffer, uint64_t size, uint64_t offset) {
  while (size > 0) {
    const ssize_t count = ::pread(fd, buffer, size, static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return ErrnoError(errno, "read");
    }
    if (count == 0) {
      return absl::AbortedError("the file became shorter while it was read");
    }
    buffer += count;
    size -= static_cast<uint64_t>(count);
    offset += static_cast<uint64_t>(count);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> DigestContent(int fd, uint64_t size, const std::stop_token& stop) {
  DigestEncoder encoder("vibe-content-1\n");
  encoder.U64(size);
  thread_local std::vector<char> buffer(kRead);
  uint64_t position = 0;
  uint64_t remembered = 0;
  while (position < size) {
    if (stop.stop_requested()) {
      return absl::CancelledError("stopped");
    }
    AwaitTurn();
    const off_t data = ::lseek(fd, static_cast<off_t>(position), SEEK_DATA);
    if (data < 0 && errno == ENXIO) {
      break;  // a hole up to the end
    }
    if (data >= 0) {
      position = std::max(position, static_cast<uint64_t>(data) / kBlock * kBlock);
    } else if (errno != EINVAL) {  // of a file system that knows no holes
      return ErrnoError(errno, "look for data");
    }
    // Data may end before this much; what is behind it reads as zeros and is passed by as such.
    const uint64_t length = std::min(kRead, size - position);
    VIBE_RETURN_IF_ERROR(ReadExactly(fd, buffer.data(), length, position));
    for (uint64_t start = 0; start < length; start += kBlock) {
      const uint64_t block = std::min(kBlock, length - start);
      if (!IsZero(buffer.data() + start, block)) {
        encoder.U64((position + start) / kBlock);
        encoder.Raw({buffer.data() + start, block});
      }
    }
    position += length;
    if (position - remembered >= kForget) {
      ::posix_fadvise(fd, static_cast<off_t>(remembered), static_cast<off_t>(position - remembered),
                      POSIX_FADV_DONTNEED);
      remembered = position;
    }
  }
  return encoder.Finish();
}

}  // namespace vibe::state
