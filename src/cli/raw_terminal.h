// A terminal whose keys go to a program elsewhere: no echo, no lines, no signals of its own. The
// destructor puts it back as it was. At most one at a time.
#pragma once

#include <termios.h>

namespace vibe::cli {

class RawTerminal {
 public:
  RawTerminal() = default;
  ~RawTerminal() { Restore(); }
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

  // False when `fd` is no terminal; nothing has changed then.
  bool Enter(int fd);
  void Restore();

 private:
  int fd_ = -1;
  termios before_{};
};

}  // namespace vibe::cli
