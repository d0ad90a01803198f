#include "supervisor/tar_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace vibe::supervisor {
namespace fs = std::filesystem;
namespace {

constexpr size_t kBlock = 512;
constexpr size_t kMaxName = 99;
constexpr uint64_t kMaxFile = (uint64_t{1} << 33) - 1;  // eleven octal digits
constexpr size_t kChunk = 1 << 20;

absl::Status WriteAll(int fd, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t written = ::write(fd, data, size);
    if (written < 0 && errno == EINTR) {
      continue;
    }
    if (written <= 0) {
      return ErrnoError(errno, "write a dump");
    }
    data += written;
    size -= static_cast<size_t>(written);
  }
  return absl::OkStatus();
}

std::string Header(const std::string& name, uint64_t size) {
  std::string header(kBlock, '\0');
  header.replace(0, name.size(), name);
  std::snprintf(&header[100], 8, "%07o", 0600);
  std::snprintf(&header[108], 8, "%07o", 0);
  std::snprintf(&header[116], 8, "%07o", 0);
  std::snprintf(&header[124], 12, "%011llo", static_cast<unsigned long long>(size));
  std::snprintf(&header[136], 12, "%011o", 0);
  std::memset(&header[148], ' ', 8);  // the checksum counts as spaces
  header[156] = '0';
  std::memcpy(&header[257], "ustar\00000", 8);
  unsigned sum = 0;
  for (const char c : header) {
    sum += static_cast<unsigned char>(c);
  }
  std::snprintf(&header[148], 8, "%06o", sum);
  return header;
}

absl::Status Append(int out, int folder, const std::string& name) {
  const UniqueFd in(::openat(folder, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat info {};
  if (!in.valid() || ::fstat(in.get(), &info) != 0) {
    return ErrnoError(errno, absl::StrCat("read ", name));
  }
  const auto size = static_cast<uint64_t>(info.st_size);
  if (!S_ISREG(info.st_mode) || name.size() > kMaxName || size > kMaxFile) {
    return absl::InvalidArgumentError(absl::StrCat("a dump cannot hold ", name));
  }
  const std::string header = Header(name, size);
  VIBE_RETURN_IF_ERROR(WriteAll(out, header.data(), header.size()));
  std::string buffer(kChunk, '\0');
  for (uint64_t left = size; left > 0;) {
    const ssize_t count = ::read(in.get(), buffer.data(), std::min<uint64_t>(left, kChunk));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      return count < 0 ? ErrnoError(errno, absl::StrCat("read ", name))
                       : absl::DataLossError(absl::StrCat(name, " became shorter"));
    }
    VIBE_RETURN_IF_ERROR(WriteAll(out, buffer.data(), static_cast<size_t>(count)));
    left -= static_cast<uint64_t>(count);
  }
  const std::string padding((kBlock - size % kBlock) % kBlock, '\0');
  return WriteAll(out, padding.data(), padding.size());
}

absl::StatusOr<bool> ReadBlock(int fd, char* block) {
  size_t done = 0;
  while (done < kBlock) {
    const ssize_t count = ::read(fd, block + done, kBlock - done);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return ErrnoError(errno, "read a dump");
    }
    if (count == 0) {
      return absl::DataLossError("a dump ends before its end");
    }
    done += static_cast<size_t>(count);
  }
  return std::any_of(block, block + kBlock, [](char c) { return c != '\0'; });
}

absl::Status Extract(int tar, int folder, const char* header) {
  const std::string name(header, ::strnlen(header, kMaxName + 1));
  const std::string digits(header + 124, 11);
  if (name.empty() || name.size() > kMaxName || name == "." || name == ".." ||
      name.find('/') != std::string::npos || header[156] != '0' ||
      digits.find_first_not_of("01234567") != std::string::npos) {
    return absl::DataLossError("a dump has an entry that is none of ours");
  }
  const UniqueFd out(
      ::openat(folder, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!out.valid()) {
    return ErrnoError(errno, absl::StrCat("make ", name));
  }
  char block[kBlock];
  for (uint64_t left = std::stoull(digits, nullptr, 8); left > 0;) {
    VIBE_RETURN_IF_ERROR(ReadBlock(tar, block).status());
    const size_t part = std::min<uint64_t>(left, kBlock);
    VIBE_RETURN_IF_ERROR(WriteAll(out.get(), block, part));
    left -= part;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadTar(const fs::path& tar, const fs::path& folder) {
  const UniqueFd in(::open(tar.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  const UniqueFd out(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!in.valid() || !out.valid()) {
    return ErrnoError(errno, absl::StrCat("read ", tar.string()));
  }
  char header[kBlock];
  while (true) {
    VIBE_ASSIGN_OR_RETURN(const bool entry, ReadBlock(in.get(), header));
    if (!entry) {
      return absl::OkStatus();
    }
    VIBE_RETURN_IF_ERROR(Extract(in.get(), out.get(), header));
  }
}

absl::Status WriteTar(const fs::path& folder, const fs::path& tar) {
  const UniqueFd source(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  const UniqueFd out(::open(tar.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!source.valid() || !out.valid()) {
    return ErrnoError(errno, absl::StrCat("make ", tar.string()));
  }
  std::vector<std::string> names;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    names.push_back(entry.path().filename());
  }
  if (error) {
    return ErrnoError(error.value(), absl::StrCat("read ", folder.string()));
  }
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    VIBE_RETURN_IF_ERROR(Append(out.get(), source.get(), name));
  }
  const std::string end(2 * kBlock, '\0');
  VIBE_RETURN_IF_ERROR(WriteAll(out.get(), end.data(), end.size()));
  return ::fsync(out.get()) == 0 ? absl::OkStatus() : ErrnoError(errno, "sync a dump");
}

}  // namespace vibe::supervisor
