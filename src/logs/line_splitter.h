// Makes records of what one stream of a container writes: cut at newlines and after kMaxLineBytes,
// masked. Memory is bounded whatever comes. Standard library only, see record_line.h. Not
// thread-safe.
#pragma once

#include <ctime>
#include <string>
#include <string_view>

#include "logs/record_line.h"
#include "logs/secret_mask.h"

namespace vibe::logs {

class LineSplitter {
 public:
  // `mask` must outlive the splitter.
  LineSplitter(Stream stream, const SecretMask& mask) : stream_(stream), mask_(mask) {}

  // Appends to `out` the lines of the records that `bytes` complete.
  void Feed(std::string_view bytes, const timespec& time, std::string& out);
  // The stream has ended: what is left is a whole line.
  void Finish(const timespec& time, std::string& out);

 private:
  void Take(std::string_view bytes, bool last);
  void CutLong(const timespec& time, std::string& out);

  const Stream stream_;
  const SecretMask& mask_;
  std::string held_;      // may be the start of a secret value; not masked yet
  std::string line_;      // of the line so far what is masked and not yet in a record
  bool started_ = false;  // some of the current line has come
};

}  // namespace vibe::logs
