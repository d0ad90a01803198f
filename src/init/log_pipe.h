// The pipe by which what the machine's programs say reaches a log file with a bound on its size.
// One thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/unique_fd.h"
#include "logs/rotating_file.h"

namespace vibe::init {

class LogPipe {
 public:
  enum class Stamp { kNone, kTime };  // kTime puts the time before each line
  // At max_bytes the file becomes "<path>.1", which replaces the one before it. What cannot be
  // written (a full disk) is dropped: a log must not stop the machine.
  static absl::StatusOr<LogPipe> Make(const std::filesystem::path& path, int64_t max_bytes,
                                      Stamp stamp);

  int read_end() const { return read_.get(); }    // never blocks
  int write_end() const { return write_.get(); }  // close-on-exec
  void Pump();                                    // moves what is there

 private:
  LogPipe(std::unique_ptr<logs::RotatingFile> file, Stamp stamp)
      : file_(std::move(file)), stamp_(stamp) {}
  void Write(absl::string_view line);

  std::unique_ptr<logs::RotatingFile> file_;
  Stamp stamp_;
  std::string partial_;  // a line whose end has not come yet
  UniqueFd read_, write_;
};

// One line to standard error, which in all of vibe-native-init leads to the machine's console.
void Say(absl::string_view line);

}  // namespace vibe::init
