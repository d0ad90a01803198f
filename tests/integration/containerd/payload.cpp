// What the tests run inside of containers; static, so that an image needs nothing else. As
// "binary://payload?logger=FILE" it is also the containers' logger.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

volatile sig_atomic_t terminated = 0;

int WaitForTerm() {
  struct sigaction action = {};
  action.sa_handler = [](int) { terminated = 1; };
  sigaction(SIGTERM, &action, nullptr);
  puts("ready");
  fflush(stdout);
  while (terminated == 0) {
    poll(nullptr, 0, 20);
  }
  puts("terminated");
  return 7;
}

int Echo() {
  char buffer[4096];
  ssize_t count = 0;
  while ((count = read(0, buffer, sizeof buffer)) > 0) {
    if (write(1, buffer, static_cast<size_t>(count)) != count) {
      return 1;
    }
  }
  fputs("end of input\n", stderr);
  return 0;
}

int ShowTerminal() {
  for (int i = 0; i < 500; ++i) {
    winsize size = {};
    if (ioctl(1, TIOCGWINSZ, &size) == 0 && size.ws_col != 0) {
      printf("%d columns, %d rows\n", size.ws_col, size.ws_row);
      return isatty(0) ? 0 : 1;
    }
    poll(nullptr, 0, 20);
  }
  return 2;
}

// The shim's protocol: stdout is 3, stderr is 4, closing 5 says that we are ready.
int Log(const char* path) {
  const int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  close(5);
  pollfd inputs[2] = {{3, POLLIN, 0}, {4, POLLIN, 0}};
  while (inputs[0].fd >= 0 || inputs[1].fd >= 0) {
    if (poll(inputs, 2, -1) < 0) {
      continue;
    }
    for (int i = 0; i < 2; ++i) {
      if (inputs[i].revents == 0) {
        continue;
      }
      char buffer[4096];
      const ssize_t count = read(inputs[i].fd, buffer, sizeof buffer);
      if (count <= 0) {
        inputs[i].fd = -1;
        continue;
      }
      const std::string line =
          (i == 0 ? "stdout: " : "stderr: ") + std::string(buffer, static_cast<size_t>(count));
      if (write(file, line.data(), line.size()) < 0) {
        return 1;
      }
    }
  }
  return 0;
}

int Listen(int family, uint16_t port) {
  const int listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int yes = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  sockaddr_in6 ipv6 = {};
  ipv6.sin6_family = AF_INET6;
  ipv6.sin6_port = htons(port);
  sockaddr_in ipv4 = {};
  ipv4.sin_family = AF_INET;
  ipv4.sin_port = htons(port);
  if (family == AF_INET6) {
    setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
  }
  const bool bound = family == AF_INET6
                         ? bind(listener, reinterpret_cast<sockaddr*>(&ipv6), sizeof ipv6) == 0
                         : bind(listener, reinterpret_cast<sockaddr*>(&ipv4), sizeof ipv4) == 0;
  return bound && listen(listener, 64) == 0 ? listener : -1;
}

// Says its host's name to each caller, then repeats what it is told until the caller has no more to
// say.
int Serve(int family, uint16_t port, int delay_ms) {
  signal(SIGTERM, [](int) { _exit(0); });
  signal(SIGCHLD, SIG_IGN);
  poll(nullptr, 0, delay_ms);
  const int listener = Listen(family, port);
  if (listener < 0) {
    perror("listen");
    return 1;
  }
  puts("listening");
  fflush(stdout);
  while (true) {
    const int peer = accept(listener, nullptr, nullptr);
    if (peer < 0 || fork() != 0) {
      close(peer);
      continue;
    }
    char name[128] = {};
    gethostname(name, sizeof name - 2);
    strcat(name, "\n");
    dup2(peer, 0);
    dup2(peer, 1);
    if (write(1, name, strlen(name)) > 0) {
      _exit(Echo());
    }
    _exit(1);
  }
}

// What a dependency's readiness is good for: whether its port answers now, by its name.
int Call(const char* address, uint16_t port) {
  char line[256];
  in_addr host = {};
  FILE* hosts = fopen("/etc/hosts", "r");
  while (hosts != nullptr && fgets(line, sizeof line, hosts) != nullptr) {
    char number[64], name[64];
    if (sscanf(line, "%63s %63s", number, name) == 2 && strcmp(name, address) == 0 &&
        inet_pton(AF_INET, number, &host) == 1) {
      break;
    }
  }
  sockaddr_in target = {};
  target.sin_family = AF_INET;
  target.sin_port = htons(port);
  target.sin_addr = host;
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(fd, reinterpret_cast<sockaddr*>(&target), sizeof target) != 0) {
    fprintf(stderr, "%s does not answer: %s\n", address, strerror(errno));
    return 1;
  }
  printf("reached %s\n", address);
  fflush(stdout);
  close(fd);
  return 0;
}

int Print(int lines) {
  for (int i = 0; i < lines; ++i) {
    printf("line %d\n", i);
    fflush(stdout);
  }
  return WaitForTerm();
}

// Ends with a failure the first time, and runs the second time: `path` remembers.
int FailOnce(const char* path) {
  if (access(path, F_OK) == 0) {
    return WaitForTerm();
  }
  close(open(path, O_CREAT | O_WRONLY, 0600));
  poll(nullptr, 0, 500);
  return 3;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "exit" && argc > 2) {
    puts("to stdout");
    fflush(stdout);
    fputs("to stderr\n", stderr);
    return atoi(argv[2]);
  }
  if (what == "wait") {
    return WaitForTerm();
  }
  if (what == "serve" && argc > 2) {
    return Serve(AF_INET, static_cast<uint16_t>(atoi(argv[2])), argc > 3 ? atoi(argv[3]) : 0);
  }
  if (what == "serve6" && argc > 2) {
    return Serve(AF_INET6, static_cast<uint16_t>(atoi(argv[2])), 0);
  }
  if (what == "call-and-serve" && argc > 4) {
    const int failed = Call(argv[2], static_cast<uint16_t>(atoi(argv[3])));
    return failed != 0 ? failed : Serve(AF_INET, static_cast<uint16_t>(atoi(argv[4])), 0);
  }
  if (what == "print" && argc > 2) {
    return Print(atoi(argv[2]));
  }
  if (what == "fail-once" && argc > 2) {
    return FailOnce(argv[2]);
  }
  if (what == "id") {
    printf("%d %d %s\n", static_cast<int>(getuid()), static_cast<int>(getgid()),
           getenv("MODE") != nullptr ? getenv("MODE") : "");
    return argc > 2 ? atoi(argv[2]) : 0;
  }
  if (what == "echo") {
    return Echo();
  }
  if (what == "terminal") {
    return ShowTerminal();
  }
  if (what == "logger" && argc > 2) {
    return Log(argv[2]);
  }
  if (what == "read" && argc > 2) {  // prints a file
    const int file = open(argv[2], O_RDONLY | O_CLOEXEC);
    dup2(file, 0);
    return file < 0 ? 1 : Echo();
  }
  return 99;
}
