#include "init/guest/modules.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace vibe::init::guest {
namespace {

constexpr char kDirectory[] = "/usr/lib/vibe/modules";

// One loop device is enough: it carries the root.
const char* Parameters(absl::string_view module) {
  return module == "loop.ko" ? "max_loop=1" : "";
}

}  // namespace

absl::Status LoadModules(absl::string_view group) {
  absl::StatusOr<std::string> list =
      ReadFile(absl::StrCat(kDirectory, "/", group, ".list"), 64 << 10);
  if (!list.ok()) {
    return Annotate(list.status(), absl::StrCat("the image has no module group ", group));
  }
  std::vector<std::string> failures;
  for (const absl::string_view name : absl::StrSplit(*list, '\n', absl::SkipEmpty())) {
    const UniqueFd module(
        ::open(absl::StrCat(kDirectory, "/", name).c_str(), O_RDONLY | O_CLOEXEC));
    if (!module.valid() ||
        (::syscall(SYS_finit_module, module.get(), Parameters(name), 0) != 0 && errno != EEXIST &&
         errno != ENODEV)) {  // ENODEV: hardware that is not there, as crc32c_intel's
      failures.push_back(absl::StrCat(name, " (", std::generic_category().message(errno), ")"));
    }
  }
  return failures.empty() ? absl::OkStatus()
                          : absl::InternalError(absl::StrCat("kernel modules do not load: ",
                                                             absl::StrJoin(failures, ", ")));
}

}  // namespace vibe::init::guest
