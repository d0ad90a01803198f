// Stands in the supervisor's place in a guest under test: looks at the guest from inside and says on the console
// what it finds, one "PROBE name value" a line, and then "PROBE done".
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int console;

static void tell(const char* format, ...) {
  char line[512] = "PROBE ";
  va_list args;
  va_start(args, format);
  vsnprintf(line + 6, sizeof line - 7, format, args);
  va_end(args);
  strcat(line, "\n");
  if (write(console, line, strlen(line)) < 0) exit(1);
}

// What a container runtime does, in a process of its own.
static int pivots(void) {
  const pid_t pid = fork();
  if (pid == 0) {
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) || mkdir("/tmp/new", 0755) ||
        mount("t", "/tmp/new", "tmpfs", 0, NULL) || mkdir("/tmp/new/old", 0755) || syscall(SYS_pivot_root, "/tmp/new", "/tmp/new/old"))
      _exit(1);
    _exit(0);
  }
  int status = 1;
  waitpid(pid, &status, 0);
  return status == 0;
}

static void count_boots(void) {
  const char* path = "/run/vibe/data/boots";
  int boots = 0;
  FILE* file = fopen(path, "r");
  if (file) {
    if (fscanf(file, "%d", &boots) != 1) boots = -1;
    fclose(file);
  }
  file = fopen(path, "w");
  if (file) {
    fprintf(file, "%d", boots + 1);
    fflush(file);
    fsync(fileno(file));
    fclose(file);
  }
  tell("boots %d", boots + 1);
}

static void listen_at(const char* path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  unlink(path);
  if (bind(fd, (struct sockaddr*)&address, sizeof address) || listen(fd, 8)) tell("listen failed");
}

static long memory(const char* name) {
  char line[128];
  long value = -1;
  FILE* file = fopen("/proc/meminfo", "r");
  while (file && fgets(line, sizeof line, file))
    if (!strncmp(line, name, strlen(name))) value = atol(line + strlen(name) + 1);
  if (file) fclose(file);
  return value / 1024;
}

int main(int argc, char** argv) {
  console = open("/dev/console", O_WRONLY | O_CLOEXEC);
  tell("pivot_root %s", pivots() ? "ok" : "refused");
  struct statvfs data;
  if (statvfs("/run/vibe/data", &data) == 0) tell("data_mib %ld", (long)(data.f_blocks * data.f_frsize >> 20));
  tell("root_writable %s", mkdir("/written", 0755) == 0 ? "yes" : "no");
  char controllers[256] = "";
  FILE* file = fopen("/sys/fs/cgroup/vibe/cgroup.subtree_control", "r");
  if (!file || !fgets(controllers, sizeof controllers, file)) strcpy(controllers, "none");
  controllers[strcspn(controllers, "\n")] = 0;
  tell("controllers %s", controllers);
  tell("memory_used_mib %ld", memory("MemTotal:") - memory("MemAvailable:"));
  for (int i = 1; i + 1 < argc; ++i) {
    if (!strcmp(argv[i], "--nameserver") || !strcmp(argv[i], "--host-gateway") || !strcmp(argv[i], "--blocked") || !strcmp(argv[i], "--uplink"))
      tell("argument %s %s", argv[i] + 2, argv[i + 1]);
    if (!strcmp(argv[i], "--listen") && !strncmp(argv[i + 1], "unix:", 5)) listen_at(argv[i + 1] + 5);
  }
  const int vsock = socket(AF_VSOCK, SOCK_STREAM, 0);
  tell("vsock %s", vsock >= 0 ? "ok" : "missing");
  count_boots();
  tell("done");
  pause();
  return 0;
}
