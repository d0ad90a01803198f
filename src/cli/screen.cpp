#include "cli/screen.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace vibe::cli {
namespace {

// Read before any thread exists.
std::string Environment(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe)
  return value == nullptr ? "" : value;
}

}  // namespace

Screen LookAtScreen(int fd, bool no_color) {
  Screen screen;
  screen.terminal = ::isatty(fd) == 1;
  screen.color = screen.terminal && !no_color && Environment("NO_COLOR").empty() &&
                 Environment("TERM") != "dumb";
  return screen;
}

ScreenSize MeasureScreen(int fd) {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) {
    return {};
  }
  return {size.ws_col, size.ws_row};
}

}  // namespace vibe::cli
