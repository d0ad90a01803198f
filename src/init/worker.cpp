#include "init/worker.h"

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "init/log_pipe.h"

namespace vibe::init {

pid_t StartWorker(const std::string& name, int nice, const std::function<absl::Status()>& step) {
  const pid_t pid = ::fork();
  if (pid != 0) {
    return pid;
  }
  ::setsid();
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::setpriority(PRIO_PROCESS, 0, nice);
  const absl::Status status = step();
  if (!status.ok()) {
    SayError(name, status);
  }
  ::_exit(status.ok() ? 0 : 1);
}

void SayError(const std::string& what, const absl::Status& status) {
  Say(absl::StrCat("vibe-init: error: ", what, ": ", status.message()));
  for (const std::string& line : LogOf(status)) {
    Say(absl::StrCat("vibe-init:   ", line));
  }
  if (const std::string advice = AdviceOf(status); !advice.empty()) {
    Say(absl::StrCat("vibe-init: advice: ", advice));
  }
}

}  // namespace vibe::init
