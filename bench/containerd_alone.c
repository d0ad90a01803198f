/* Stands in the supervisor's place in a guest: once the guest has nothing left to do, it starts a containerd of its own,
 * with the settings of vibe-init's and a folder on the data disk, again and again, and says on the console how long
 * each takes until it accepts connections. Before, it kills vibe-init's: a program that runs stays in memory, and at a
 * boot it is not there. vibe-init waits ever longer with the next; those are the moments. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define THEIRS "/run/vibe"
#define OURS "/run/othr" /* as long, so that it can be written over the other */
#define DATA "/run/vibe/data/alone"

enum { kStarts = 5, kSettle = 5, kKillsUntilItWaits = 7 };

static void say(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  FILE* console = fopen("/dev/console", "we");
  if (console == NULL || vfprintf(console, format, arguments) < 0 || fclose(console) != 0) exit(1);
  va_end(arguments);
}

static void fail(const char* what) {
  say("alone: failed: %s: %m\n", what);
  exit(1);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static struct sockaddr_un address_of(const char* path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  return address;
}

static void listen_at(const char* path) {
  const struct sockaddr_un address = address_of(path);
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  unlink(path);
  if (bind(fd, (const struct sockaddr*)&address, sizeof address) || listen(fd, 8)) fail("listen");
}

static void write_settings(void) {
  static char text[65536];
  FILE* from = fopen(THEIRS "/containerd.toml", "re");
  FILE* to = fopen(OURS "/containerd.toml", "we");
  if (from == NULL || to == NULL) fail("open containerd's settings");
  text[fread(text, 1, sizeof text - 1, from)] = 0;
  for (char* at = text; (at = strstr(at, THEIRS)) != NULL;) memcpy(at, OURS, strlen(OURS));
  if (fputs(text, to) < 0 || fclose(to) != 0 || fclose(from) != 0) fail("write containerd's settings");
}

/* vibe-init's containerd; 0 when it does not run. */
static pid_t theirs(void) {
  pid_t found = 0;
  DIR* processes = opendir("/proc");
  for (struct dirent* entry; processes != NULL && (entry = readdir(processes)) != NULL;) {
    char path[300], name[32];
    int parent = 0;
    snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
    FILE* file = fopen(path, "re");
    if (file == NULL) continue;
    if (fscanf(file, "%*d (%31[^)]) %*c %d", name, &parent) == 2 && parent == 1 && !strcmp(name, "containerd"))
      found = atoi(entry->d_name);
    fclose(file);
  }
  if (processes != NULL) closedir(processes);
  return found;
}

static void kill_theirs(void) {
  pid_t pid = 0;
  while ((pid = theirs()) == 0) usleep(10000);
  kill(pid, SIGKILL);
  while (theirs() == pid) usleep(1000);
}

static void forget_files(void) {
  sync();
  FILE* file = fopen("/proc/sys/vm/drop_caches", "we");
  if (file == NULL || fputs("3", file) < 0 || fclose(file) != 0) fail("drop caches");
}

static double start_once(void) {
  const struct sockaddr_un address = address_of(OURS "/containerd.sock");
  const double started = now();
  const pid_t pid = fork();
  if (pid == 0) {
    const int log = open(OURS "/log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    dup2(log, 1);
    dup2(log, 2);
    execl("/usr/bin/containerd", "containerd", "--config", OURS "/containerd.toml", (char*)NULL);
    _exit(127);
  }
  while (1) {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int refused = connect(fd, (const struct sockaddr*)&address, sizeof address);
    close(fd);
    if (refused == 0) break;
    if (waitpid(pid, NULL, WNOHANG) == pid) fail("containerd ended");
    usleep(5000);
  }
  const double took = now() - started;
  kill(pid, SIGTERM);
  waitpid(pid, NULL, 0);
  unlink(address.sun_path);
  return took;
}

int main(int argc, char** argv) {
  for (int i = 1; i + 1 < argc; ++i)
    if (!strcmp(argv[i], "--listen") && !strncmp(argv[i + 1], "unix:", 5)) listen_at(argv[i + 1] + 5);
  sleep(kSettle);
  if (mkdir(OURS, 0755) || mkdir(OURS "/data", 0755) || mkdir(DATA, 0755) || mkdir(DATA "/tmp", 0755) ||
      mount(DATA, OURS "/data", NULL, MS_BIND, NULL))
    fail("make a folder");
  write_settings();
  for (int i = 0; i < kKillsUntilItWaits; ++i) kill_theirs();
  for (int i = 0; i < kStarts; ++i) {
    kill_theirs();
    forget_files();
    say("alone: %.3f\n", start_once());
  }
  say("alone: done\n");
  pause();
}
