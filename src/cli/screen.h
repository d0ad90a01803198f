// What a standard stream is connected to. Read once at the start of the program.
#pragma once

#include "cli/progress.h"

namespace vibe::cli {

struct Screen {
  bool terminal = false;
  bool color = false;  // a terminal, and neither --no-color, NO_COLOR nor TERM=dumb
};

Screen LookAtScreen(int fd, bool no_color);

// The size now; 80x24 when it is not known.
ScreenSize MeasureScreen(int fd);

}  // namespace vibe::cli
