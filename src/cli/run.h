// The whole program but for main: words in, output and an exit code out.
#pragma once

#include <string>
#include <vector>

namespace vibe::cli {

// `args` without the program's name. Exit codes: 0 done, 1 failed, 2 used wrongly, 130 interrupted;
// exec ends with the command's own.
int RunVibe(const std::vector<std::string>& args);

}  // namespace vibe::cli
