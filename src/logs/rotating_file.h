// A file that records are appended to and that is renamed away when it is full: `web.log` becomes
// `web.log.1` and so on. Standard library and system calls only, see record_line.h. Not
// thread-safe; one writer per file at a time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/unique_fd.h"

namespace vibe::logs {

class RotatingFile {
 public:
  explicit RotatingFile(std::string path, int64_t max_bytes, int max_rotated);

  // Both return 0 or an errno. Open may be called again after it failed.
  int Open();
  bool is_open() const { return fd_.valid(); }
  // Appends `lines`, all to the same file. After an error such as a full disk the first `written`
  // bytes of them are there, which are whole lines: a file never ends within one, and what a reader
  // has seen as a whole line stays.
  int Append(std::string_view lines, size_t& written);

 private:
  std::string Rotated(int number) const;
  void Rotate();

  const std::string path_;
  const int64_t max_bytes_;
  const int max_rotated_;
  UniqueFd fd_;
  int64_t size_ = 0;
};

}  // namespace vibe::logs
