/* Starts in vibe-init's place in a guest under test, leaves a child behind and becomes vibe-init. The child kills what an
 * app asks for: there is no other way into a guest. An app asks with a file `kill` in a volume of its own that has the
 * name of a program of vibe-init's in it. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROC "/killer-proc" /* not /proc, which vibe-init mounts and moves */
#define PROJECTS "/run/vibe/data/projects"

enum { kPollMicroseconds = 100000, kMostPath = 512 };

static void each_in(const char* folder, void (*look)(const char* path)) {
  DIR* directory = opendir(folder);
  for (struct dirent* entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
    char path[kMostPath];
    if (entry->d_name[0] != '.' && snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) < (int)sizeof path)
      look(path);
  }
  if (directory != NULL) closedir(directory);
}

static const char* wanted;
static pid_t found;

static void look_at_process(const char* path) {
  char stat[kMostPath + 8], name[32];
  int pid = 0, parent = 0;
  snprintf(stat, sizeof stat, "%s/stat", path);
  FILE* file = fopen(stat, "re");
  if (file == NULL) return;
  if (fscanf(file, "%d (%31[^)]) %*c %d", &pid, name, &parent) == 3 && parent == 1 && strcmp(name, wanted) == 0)
    found = pid;
  fclose(file);
}

static void look_at_volume(const char* path) {
  char request[kMostPath + 8], name[32];
  snprintf(request, sizeof request, "%s/kill", path);
  const int fd = open(request, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return;
  const ssize_t count = read(fd, name, sizeof name - 1);
  close(fd);
  if (count <= 0) return; /* it is being written */
  name[count] = 0;
  wanted = name;
  found = 0;
  each_in("/proc", look_at_process);
  if (found == 0 || unlink(request) != 0) return;
  sync(); /* or a power cut brings the request back */
  kill(found, SIGKILL);
}

static void look_at_project(const char* path) {
  char volumes[kMostPath + 24];
  snprintf(volumes, sizeof volumes, "%s/current/volumes", path);
  each_in(volumes, look_at_volume);
}

static void fail(const char* what) {
  fprintf(stderr, "killing_init: %s: %m\n", what);
  exit(1);
}

int main(int argc, char** argv) {
  (void)argc;
  const pid_t child = fork();
  if (child < 0) fail("fork");
  if (child > 0) {
    execv("/vibe-init", argv);
    fail("start vibe-init");
  }
  setsid();
  if (mkdir(PROC, 0700) != 0 || mount("proc", PROC, "proc", 0, NULL) != 0) fail("mount /proc");
  /* vibe-init's root is another one than ours, once it has one. */
  while (access(PROC "/1/root" PROJECTS, F_OK) != 0) usleep(kPollMicroseconds);
  if (chroot(PROC "/1/root") != 0 || chdir("/") != 0) fail("change to vibe-init's root");
  while (1) {
    each_in(PROJECTS, look_at_project);
    usleep(kPollMicroseconds);
  }
}
