/* Starts in vibe-init's place in a guest under test, leaves a child behind and becomes vibe-init. The child does what an
 * app asks for: there is no other way into a guest. An app asks with a file in a volume of its own:
 *
 *   kill   the name of a program of vibe-init's, which is killed
 *   fault  fault points (src/state/fault.h), one a line: the first is armed now, and the next in each boot that follows
 *   run    words, one a line, and the line "end": the initrd's /program runs with all of them but the first, which names the
 *          file for what it says; that is NAME.new until the program has ended
 *
 * Faults need a supervisor that has the points: the initrd's /vibe-supervisor takes the place of the image's. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROC "/killer-proc" /* not /proc, which vibe-init mounts and moves */
#define ROOT PROC "/1/root" /* vibe-init's, which is another one than ours once it has one */
#define SUPERVISOR "/usr/bin/vibe-supervisor"
#define DATA "/run/vibe/data"
#define PROJECTS DATA "/projects"
#define FAULTS DATA "/faults-to-come"

enum { kPollMicroseconds = 100000, kBootPollMicroseconds = 5000, kMostPath = 512, kMostText = 256,
       kMostRequest = 65536, kMostWords = 1024 };

static void fail(const char* what) {
  dprintf(STDERR_FILENO, "killing_init: %s: %m\n", what);
  exit(1);
}

/* Whether there is some text in the file. */
static int read_text(const char* path, char text[kMostText]) {
  const int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return 0;
  const ssize_t count = read(fd, text, kMostText - 1);
  close(fd);
  text[count < 0 ? 0 : count] = 0;
  return count > 0; /* else it is being written */
}

static void write_text(const char* path, const char* text) {
  const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || close(fd) != 0) fail(path);
}

/* A power cut does not bring the request back. */
static int take(const char* request) {
  if (unlink(request) != 0) return 0;
  sync();
  return 1;
}

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

/* Once in a boot. */
static void arm(void) {
  static int armed;
  char faults[kMostText];
  if (armed || !read_text(FAULTS, faults)) return;
  char* const end = strchr(faults, '\n');
  if (end != NULL) write_text(FAULTS, end + 1);
  if (end != NULL) *end = 0;
  if (end == NULL) unlink(FAULTS);
  sync();
  write_text("/run/vibe/fault", faults);
  dprintf(STDOUT_FILENO, "armed the fault: %s\n", faults);
  armed = 1;
}

static int program = -1;

static void run(const char* folder, char** words) {
  char said[kMostPath], ended[kMostPath];
  if (snprintf(said, sizeof said, "%s/%s.new", folder, words[0]) >= (int)sizeof said) return;
  snprintf(ended, sizeof ended, "%s/%s", folder, words[0]);
  if (fork() != 0) return;
  const int fd = open(said, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0) fail(said);
  const pid_t child = fork();
  if (child == 0) {
    fexecve(program, words, (char*[]){NULL});
    fail("run the program");
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) fail("wait for the program");
  dprintf(STDOUT_FILENO, "ended with %d\n", status);
  if (rename(said, ended) != 0) fail(ended);
  exit(0);
}

static void look_for_words(const char* folder) {
  static char text[kMostRequest];
  char request[kMostPath + 8];
  snprintf(request, sizeof request, "%s/run", folder);
  const int fd = open(request, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return;
  const ssize_t count = read(fd, text, sizeof text - 1);
  close(fd);
  text[count < 0 ? 0 : count] = 0;
  char* const end = strstr(text, "\nend\n");
  if (end == NULL || unlink(request) != 0) return; /* it is being written */
  *end = 0;
  char* words[kMostWords + 1] = {NULL};
  char* rest = text;
  for (int index = 0; index < kMostWords && rest != NULL; ++index) words[index] = strsep(&rest, "\n");
  run(folder, words);
}

static void look_at_volume(const char* path) {
  char request[kMostPath + 8], text[kMostText];
  if (program >= 0) look_for_words(path);
  snprintf(request, sizeof request, "%s/fault", path);
  if (read_text(request, text) && take(request)) {
    write_text(FAULTS, text);
    arm();
  }
  snprintf(request, sizeof request, "%s/kill", path);
  if (!read_text(request, text)) return;
  wanted = text;
  found = 0;
  each_in("/proc", look_at_process);
  if (found != 0 && take(request)) kill(found, SIGKILL);
}

static void look_at_project(const char* path) {
  char volumes[kMostPath + 24];
  snprintf(volumes, sizeof volumes, "%s/current/volumes", path);
  each_in(volumes, look_at_volume);
}

/* Whether vibe-init has its root, and the data disk in it. This asks for the list of its mounts: in one of some hundred
 * emulated boots both processors spun without end while this walked through a root that vibe-init was changing. */
static int has_data(void) {
  static char mounts[kMostRequest];
  const int fd = open(PROC "/1/mountinfo", O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail("read vibe-init's mounts");
  ssize_t size = 0, count;
  while ((count = read(fd, mounts + size, sizeof mounts - 1 - size)) > 0) size += count;
  close(fd);
  mounts[size] = 0;
  return strstr(mounts, " " DATA " ") != NULL;
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
  program = open("/program", O_RDONLY | O_CLOEXEC);
  if (mkdir(PROC, 0700) != 0 || mount("proc", PROC, "proc", 0, NULL) != 0) fail("mount /proc");
  while (!has_data()) usleep(kBootPollMicroseconds);
  if (access("/vibe-supervisor", F_OK) == 0 &&
      mount("/vibe-supervisor", ROOT SUPERVISOR, NULL, MS_BIND, NULL) != 0) {
    fail("replace the supervisor");
  }
  while (access(ROOT PROJECTS, F_OK) != 0) usleep(kBootPollMicroseconds);
  if (chroot(ROOT) != 0 || chdir("/") != 0) fail("change to vibe-init's root");
  arm(); /* before the supervisor starts: containerd, which it waits for, starts now */
  while (1) {
    while (waitpid(-1, NULL, WNOHANG) > 0) continue;
    each_in(PROJECTS, look_at_project);
    usleep(kPollMicroseconds);
  }
}
