#include "cli/raw_terminal.h"

#include <pthread.h>

#include <cerrno>
#include <csignal>

namespace vibe::cli {

bool RawTerminal::Enter(int fd) {
  termios raw{};
  if (fd_ >= 0 || ::tcgetattr(fd, &before_) != 0) {
    return false;
  }
  raw = before_;
  ::cfmakeraw(&raw);
  if (::tcsetattr(fd, TCSADRAIN, &raw) != 0) {
    return false;
  }
  fd_ = fd;
  return true;
}

void RawTerminal::Restore() {
  if (fd_ < 0) {
    return;
  }
  // From a process in the background tcsetattr would stop us (SIGTTOU) before the terminal is in
  // order.
  sigset_t stop;
  sigset_t before;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTTOU);
  pthread_sigmask(SIG_BLOCK, &stop, &before);
  while (::tcsetattr(fd_, TCSADRAIN, &before_) != 0 && errno == EINTR) {
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  fd_ = -1;
}

}  // namespace vibe::cli
