// The worker's side: locks itself in, opens one database, says one line. It is single-threaded and
// lives for one database.
#include "state/sqlite_worker.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <sched.h>
#include <sqlite3.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "state/sqlite_files.h"

namespace vibe::state {
namespace {

struct Job {
  bool check = false;  // else checkpoint
  uint32_t uid = 0;
  uint32_t gid = 0;
  int busy_ms = 0;
  uint64_t max_memory = 0;
  uint64_t max_file_size = 0;
  uint64_t cpu_seconds = 0;
  std::string path;
};

bool Parse(int argc, char** argv, Job& job) {
  if (argc != kWorkerArguments) {
    return false;
  }
  job.check = std::strcmp(argv[2], kCheckMode) == 0;
  job.path = argv[9];
  return (job.check || std::strcmp(argv[2], kCheckpointMode) == 0) &&
         absl::SimpleAtoi(argv[3], &job.uid) && absl::SimpleAtoi(argv[4], &job.gid) &&
         absl::SimpleAtoi(argv[5], &job.busy_ms) && absl::SimpleAtoi(argv[6], &job.max_memory) &&
         absl::SimpleAtoi(argv[7], &job.max_file_size) &&
         absl::SimpleAtoi(argv[8], &job.cpu_seconds) && job.path.size() > 1 && job.path[0] == '/';
}

void Say(const std::string& line) {
  std::string out = line;
  for (char& c : out) {
    c = c == '\n' ? ' ' : c;
  }
  out.push_back('\n');
  absl::string_view rest = out;
  while (!rest.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, rest.data(), rest.size());
    if (written <= 0) {
      return;
    }
    rest.remove_prefix(static_cast<size_t>(written));
  }
}

bool Limit(__rlimit_resource resource, uint64_t value) {
  const rlimit limit = {value, value};
  return ::setrlimit(resource, &limit) == 0;
}

// The volume becomes the whole file system, without symlinks, devices and programs. A name in it
// leads nowhere else, whatever an app puts there.
bool EnterVolume() {
  const int tree = static_cast<int>(::syscall(SYS_open_tree, kWorkerVolumeFd, "",
                                              AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  mount_attr attributes = {};
  attributes.attr_set =
      MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW;
  return tree >= 0 &&
         ::syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes) ==
             0 &&
         ::fchdir(tree) == 0 && ::chroot(".") == 0 && ::chdir("/") == 0 &&
         ::close(kWorkerVolumeFd) == 0 && ::close(tree) == 0;
}

// Nothing is left of root but, for a check of a clone that is nobody else's, to read and write
// files of any owner in it.
bool DropPrivileges(const Job& job) {
  const uint32_t kept = job.check ? 1U << CAP_DAC_OVERRIDE : 0;
  const uid_t uid = job.check ? 0 : job.uid;
  const gid_t gid = job.check ? 0 : job.gid;
  if (::setgroups(0, nullptr) != 0 || ::setresgid(gid, gid, gid) != 0 ||
      ::setresuid(uid, uid, uid) != 0 || ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return false;
  }
  __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2] = {};
  data[0].effective = data[0].permitted = kept;
  return ::syscall(SYS_capset, &header, data) == 0;
}

bool SetLimits(const Job& job) {
  return Limit(RLIMIT_CORE, 0) && Limit(RLIMIT_NOFILE, 32) && Limit(RLIMIT_NPROC, 8) &&
         Limit(RLIMIT_FSIZE, job.max_file_size) && Limit(RLIMIT_CPU, job.cpu_seconds) &&
         (job.max_memory == 0 || Limit(RLIMIT_AS, job.max_memory));
}

struct Closer {
  void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
};
using Database = std::unique_ptr<sqlite3, Closer>;

std::string Failure(sqlite3* database, int code) {
  return absl::StrCat("could not be read: ",
                      database != nullptr ? sqlite3_errmsg(database) : sqlite3_errstr(code));
}

// The first row of a statement, as text; columns with a space between them.
int FirstRow(sqlite3* database, const char* sql, std::string& row) {
  sqlite3_stmt* statement = nullptr;
  int code = sqlite3_prepare_v2(database, sql, -1, &statement, nullptr);
  if (code == SQLITE_OK) {
    code = sqlite3_step(statement);
    if (code == SQLITE_ROW) {
      for (int column = 0; column < sqlite3_column_count(statement); ++column) {
        const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, column));
        absl::StrAppend(&row, column == 0 ? "" : " ", text == nullptr ? "" : text);
      }
      code = SQLITE_OK;
    }
  }
  sqlite3_finalize(statement);
  return code == SQLITE_DONE ? SQLITE_OK : code;
}

std::string Work(const Job& job) {
  if (job.max_memory != 0) {
    sqlite3_hard_heap_limit64(static_cast<sqlite3_int64>(job.max_memory / 2));
  }
  sqlite3* opened = nullptr;
  int code =
      sqlite3_open_v2(job.path.c_str(), &opened,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_NOMUTEX, nullptr);
  const Database database(opened);
  if (code != SQLITE_OK) {
    return Failure(opened, code);
  }
  sqlite3_busy_timeout(opened, job.busy_ms);
  // The schema is an app's text: it may not write to itself, run triggers or call functions.
  sqlite3_db_config(opened, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(opened, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  sqlite3_db_config(opened, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, nullptr);
  sqlite3_db_config(opened, SQLITE_DBCONFIG_ENABLE_VIEW, 0, nullptr);
  std::string row;
  for (const char* pragma :
       {"PRAGMA cell_size_check=ON", "PRAGMA mmap_size=0", "PRAGMA temp_store=MEMORY"}) {
    code = FirstRow(opened, pragma, row);
    if (code != SQLITE_OK) {
      return Failure(opened, code);
    }
  }
  row.clear();
  code = FirstRow(opened,
                  job.check ? "PRAGMA integrity_check(1)" : "PRAGMA wal_checkpoint(TRUNCATE)", row);
  if (code == SQLITE_BUSY || code == SQLITE_LOCKED) {
    return kAnswerBusy;
  }
  if (code != SQLITE_OK) {
    return Failure(opened, code);
  }
  if (job.check) {
    return row.empty() ? "could not be read: integrity_check says nothing" : row;
  }
  return row.substr(0, 2) == "0 " ? kAnswerOk : kAnswerBusy;
}

int NotConfined(const char* what) {
  Say(absl::StrCat(what, ": ", std::strerror(errno)));  // NOLINT(concurrency-mt-unsafe)
  return kWorkerNotConfined;
}

int RunConfined(const Job& job) {
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || !DropPrivileges(job) || !SetLimits(job) ||
      // Again: changing the uid cleared it.
      ::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) {
    return NotConfined("drop privileges");
  }
  Say(Work(job));
  return 0;
}

}  // namespace

std::optional<int> SqliteWorkerMain(int argc, char** argv) {
  if (argc < 2 || std::strcmp(argv[1], kWorkerArgument) != 0) {
    return std::nullopt;
  }
  Job job;
  if (!Parse(argc, argv, job)) {
    errno = EINVAL;
    return NotConfined("arguments");
  }
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 ||
      ::syscall(SYS_close_range, kWorkerVolumeFd + 1, ~0U, 0) != 0 || !EnterVolume()) {
    return NotConfined("enter the volume");
  }
  // Without these a worker of uid 0 could send signals to others of that uid, or reach the network.
  if (::unshare(CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC) != 0) {
    return NotConfined("leave the namespaces");
  }
  const pid_t child = ::fork();
  if (child < 0) {
    return NotConfined("fork");
  }
  if (child == 0) {
    ::_exit(RunConfined(job));
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

}  // namespace vibe::state
