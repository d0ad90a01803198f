// The real vibe as a child process, on pipes or on a terminal of its own, with a home whose vibed
// is a scripted server.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "base/unique_fd.h"
#include "scripted_server.h"

namespace vibe::cli {

struct Finished {
  int exit_code = 0;  // 128+n when signal n ended it
  std::string out;
  std::string err;
};

// A home with a scripted vibed in it.
class ScriptedHome {
 public:
  ScriptedHome();
  ~ScriptedHome();

  // The answer to "METHOD target"; what was not told gets 404.
  void On(const std::string& request, const vibe::testing::ScriptedReply& reply);
  std::vector<vibe::testing::SeenRequest> Seen(const std::string& target) const;
  const std::filesystem::path& path() const { return path_; }

 private:
  vibe::testing::ScriptedReply Answer(const vibe::testing::SeenRequest& request);

  std::filesystem::path path_;
  mutable absl::Mutex mutex_;
  std::map<std::string, vibe::testing::ScriptedReply> replies_;
  std::unique_ptr<vibe::testing::ScriptedServer> server_;
};

// On pipes, to its end.
Finished RunProgram(const ScriptedHome& home, const std::vector<std::string>& args,
                    const std::string& input = "");

// On a terminal of 100 columns and 30 rows. Killed by the destructor.
class TerminalProgram {
 public:
  TerminalProgram(const ScriptedHome& home, const std::vector<std::string>& args);
  ~TerminalProgram();

  void Type(const std::string& keys);
  void Resize(int columns, int rows);
  void Signal(int number);
  // Reads until `text` is on the screen; false after ten seconds.
  bool WaitFor(const std::string& text);
  int Wait();  // the exit code
  bool Echoes() const;
  const std::string& screen() const { return screen_; }

 private:
  bool Read(int timeout_ms);

  pid_t pid_ = -1;
  UniqueFd terminal_;
  std::string screen_;
};

}  // namespace vibe::cli
