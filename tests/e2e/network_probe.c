// What a service can reach, tried from inside: a static program that an app carries in its files.
//
//   network_probe serve PORT        TCP (says "hello" to whoever comes) and UDP (echoes), IPv4 and IPv6
//   network_probe try WHAT...       one line of JSON for each WHAT: {"what", "outcome", "error", "ms"}
//   network_probe hold ADDRESS PORT connects, says "connected", and writes a byte each 50 ms until that fails
//   network_probe hammer ADDRESS PORT  connects without end; says "reached" when that succeeds, and now and then how often
//                                   it tried and how often there was no answer within the patience
//   network_probe resolve NAME      the C library's addresses of a name, one a line
//
// WHAT is PROTOCOL,ADDRESS,PORT, an address of IPv6 with %INTERFACE where it needs one, or an attempt at what no service
// may do: raw4, raw6, packet, address, transparent, freebind4,SOURCE,TO,PORT or freebind6,SOURCE,TO,PORT.
// An outcome is "open", "refused" (an error came back), "silence" (nothing did) or "forbidden" (no such socket).
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <netinet/icmp6.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { kPatienceMs = 1500 };

static double Now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static socklen_t Parse(const char* text, const char* port, struct sockaddr_storage* address) {
  struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
  struct addrinfo* found = NULL;
  if (getaddrinfo(text, port, &hints, &found) != 0) {
    fprintf(stderr, "network_probe: %s is not an address\n", text);
    exit(2);
  }
  memcpy(address, found->ai_addr, found->ai_addrlen);
  const socklen_t size = found->ai_addrlen;
  freeaddrinfo(found);
  return size;
}

struct Outcome {
  const char* word;
  int error;
};

static struct Outcome Failed(int error) {
  return (struct Outcome){error == ETIMEDOUT ? "silence" : "refused", error};
}

// Waits for an answer on a connected socket.
static struct Outcome Answer(int fd) {
  struct pollfd readable = {fd, POLLIN, 0};
  if (poll(&readable, 1, kPatienceMs) != 1) {
    return (struct Outcome){"silence", 0};
  }
  char buffer[512];
  const ssize_t count = recv(fd, buffer, sizeof buffer, 0);
  return count < 0 ? Failed(errno) : (struct Outcome){"open", 0};
}

static struct Outcome TryTcp(const struct sockaddr* to, socklen_t size) {
  const int fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (connect(fd, to, size) != 0 && errno != EINPROGRESS) {
    const int error = errno;
    close(fd);
    return Failed(error);
  }
  struct pollfd writable = {fd, POLLOUT, 0};
  int error = ETIMEDOUT;
  socklen_t length = sizeof error;
  if (poll(&writable, 1, kPatienceMs) == 1) {
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
  }
  close(fd);
  return error == 0 ? (struct Outcome){"open", 0} : Failed(error);
}

static struct Outcome TryUdp(const struct sockaddr* to, socklen_t size) {
  const int fd = socket(to->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct Outcome outcome;
  if (connect(fd, to, size) != 0 || send(fd, "ping", 4, 0) != 4) {
    outcome = Failed(errno);
  } else {
    outcome = Answer(fd);
  }
  close(fd);
  return outcome;
}

static struct Outcome TryIcmp(const struct sockaddr* to, socklen_t size) {
  const int ipv6 = to->sa_family == AF_INET6;
  const int fd = socket(to->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
  if (fd < 0) {
    return (struct Outcome){"forbidden", errno};
  }
  const unsigned char echo[16] = {ipv6 ? ICMP6_ECHO_REQUEST : ICMP_ECHO};
  const int on = 1;  // errors are told to those sockets that ask for them
  setsockopt(fd, ipv6 ? IPPROTO_IPV6 : IPPROTO_IP, ipv6 ? IPV6_RECVERR : IP_RECVERR, &on, sizeof on);
  struct Outcome outcome;
  if (connect(fd, to, size) != 0 || send(fd, echo, sizeof echo, 0) != sizeof echo) {
    outcome = Failed(errno);
  } else {
    outcome = Answer(fd);
  }
  close(fd);
  return outcome;
}

static struct Outcome TrySocket(int family, int type, int protocol) {
  const int fd = socket(family, type | SOCK_CLOEXEC, protocol);
  const struct Outcome outcome = {fd < 0 ? "forbidden" : "open", fd < 0 ? errno : 0};
  if (fd >= 0) {
    close(fd);
  }
  return outcome;
}

// An address of its own choice for its interface.
static struct Outcome TryAddress(void) {
  const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  struct {
    struct nlmsghdr header;
    struct ifaddrmsg address;
    struct rtattr attribute;
    struct in_addr value;
  } request = {.header = {.nlmsg_len = sizeof request,
                          .nlmsg_type = RTM_NEWADDR,
                          .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE},
               .address = {.ifa_family = AF_INET, .ifa_prefixlen = 32, .ifa_index = if_nametoindex("eth0")},
               .attribute = {sizeof(struct rtattr) + sizeof(struct in_addr), IFA_LOCAL},
               .value = {htonl(0x0A400063)}};
  struct {
    struct nlmsghdr header;
    struct nlmsgerr error;
  } answer;
  memset(&answer, 0, sizeof answer);
  if (fd < 0 || send(fd, &request, sizeof request, 0) < 0 || recv(fd, &answer, sizeof answer, 0) < 0) {
    return (struct Outcome){"forbidden", errno};
  }
  close(fd);
  return (struct Outcome){answer.error.error == 0 ? "open" : "forbidden", -answer.error.error};
}

static struct Outcome TryTransparent(void) {
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  const int failed = setsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &on, sizeof on) != 0;
  const struct Outcome outcome = {failed ? "forbidden" : "open", failed ? errno : 0};
  close(fd);
  return outcome;
}

// Sends "spoofed" from an address that is not its own, which needs no privilege to bind to. "sent" says nothing about
// whether it arrives.
static struct Outcome TryFreebind(int ipv6, const char* source, const char* to, const char* port) {
  struct sockaddr_storage from, target;
  const socklen_t from_size = Parse(source, "0", &from);
  const socklen_t target_size = Parse(to, port, &target);
  const int fd = socket(from.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  struct Outcome outcome = {"sent", 0};
  if (setsockopt(fd, ipv6 ? IPPROTO_IPV6 : IPPROTO_IP, ipv6 ? 78 /* IPV6_FREEBIND */ : IP_FREEBIND, &on, sizeof on) != 0 ||
      bind(fd, (const struct sockaddr*)&from, from_size) != 0 ||
      sendto(fd, "spoofed", 7, 0, (const struct sockaddr*)&target, target_size) != 7) {
    outcome = (struct Outcome){"forbidden", errno};
  }
  close(fd);
  return outcome;
}

static struct Outcome Try(const char* protocol, const char* a, const char* b, const char* c) {
  if (strcmp(protocol, "raw4") == 0) {
    return TrySocket(AF_INET, SOCK_RAW, IPPROTO_UDP);
  }
  if (strcmp(protocol, "raw6") == 0) {
    return TrySocket(AF_INET6, SOCK_RAW, IPPROTO_UDP);
  }
  if (strcmp(protocol, "packet") == 0) {
    return TrySocket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
  }
  if (strcmp(protocol, "address") == 0) {
    return TryAddress();
  }
  if (strcmp(protocol, "transparent") == 0) {
    return TryTransparent();
  }
  if (strncmp(protocol, "freebind", 8) == 0 && c != NULL) {
    return TryFreebind(protocol[8] == '6', a, b, c);
  }
  if (b == NULL) {
    fprintf(stderr, "network_probe: what is %s?\n", protocol);
    exit(2);
  }
  struct sockaddr_storage to;
  const socklen_t size = Parse(a, b, &to);
  const struct sockaddr* address = (const struct sockaddr*)&to;
  return strcmp(protocol, "tcp") == 0   ? TryTcp(address, size)
         : strcmp(protocol, "udp") == 0 ? TryUdp(address, size)
                                        : TryIcmp(address, size);
}

static int TryAll(int count, char** whats) {
  for (int index = 0; index < count; ++index) {
    char copy[256];
    snprintf(copy, sizeof copy, "%s", whats[index]);
    char* rest = copy;
    const char* protocol = strsep(&rest, ",");
    const char* a = strsep(&rest, ",");
    const char* b = strsep(&rest, ",");
    const char* c = strsep(&rest, ",");
    const double begun = Now();
    const struct Outcome outcome = Try(protocol, a, b, c);
    printf("{\"what\": \"%s\", \"outcome\": \"%s\", \"error\": \"%s\", \"ms\": %.1f}\n", whats[index], outcome.word,
           outcome.error == 0 ? "" : strerror(outcome.error), Now() - begun);
  }
  return 0;
}

static int Bound(int type, const char* port) {
  const int fd = socket(AF_INET6, type | SOCK_CLOEXEC, 0);
  const int on = 1, off = 0;
  struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons((unsigned short)atoi(port))};
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (bind(fd, (const struct sockaddr*)&any, sizeof any) != 0) {
    perror("network_probe: bind");
    exit(1);
  }
  return fd;
}

static int Serve(const char* port) {
  const int tcp = Bound(SOCK_STREAM, port), udp = Bound(SOCK_DGRAM, port);
  listen(tcp, 128);
  printf("serving\n");
  struct pollfd fds[256] = {{tcp, POLLIN, 0}, {udp, POLLIN, 0}};
  int count = 2;
  while (poll(fds, (nfds_t)count, -1) > 0) {
    if ((fds[1].revents & POLLIN) != 0) {
      char buffer[2048];
      char host[64] = "";
      struct sockaddr_storage from;
      socklen_t size = sizeof from;
      const ssize_t length = recvfrom(udp, buffer, sizeof buffer, 0, (struct sockaddr*)&from, &size);
      getnameinfo((const struct sockaddr*)&from, size, host, sizeof host, NULL, 0, NI_NUMERICHOST);
      if (length > 0) {
        printf("got %.*s from %s\n", (int)length, buffer, host);
        sendto(udp, buffer, (size_t)length, 0, (const struct sockaddr*)&from, size);
      }
    }
    // What a connection sends is read and forgotten; it ends when its other side does.
    for (int index = count - 1; index > 1; --index) {
      char buffer[4096];
      if (fds[index].revents != 0 && recv(fds[index].fd, buffer, sizeof buffer, MSG_DONTWAIT) <= 0) {
        close(fds[index].fd);
        fds[index] = fds[--count];
      }
    }
    if ((fds[0].revents & POLLIN) != 0) {
      const int connection = accept4(tcp, NULL, NULL, SOCK_CLOEXEC);
      if (connection >= 0 && (send(connection, "hello\n", 6, MSG_NOSIGNAL) < 0 || count == 256)) {
        close(connection);
      } else if (connection >= 0) {
        fds[count++] = (struct pollfd){connection, POLLIN, 0};
      }
    }
  }
  return 1;
}

static int Hold(const char* text, const char* port) {
  struct sockaddr_storage to;
  const socklen_t size = Parse(text, port, &to);
  const int fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd, (const struct sockaddr*)&to, size) != 0) {
    perror("network_probe: connect");
    return 1;
  }
  printf("connected\n");
  while (send(fd, "x", 1, MSG_NOSIGNAL) == 1) {
    usleep(50 * 1000);
  }
  printf("ended: %s\n", strerror(errno));
  return 0;
}

static int Hammer(const char* text, const char* port) {
  struct sockaddr_storage to;
  const socklen_t size = Parse(text, port, &to);
  long silent = 0;
  for (long tried = 1;; ++tried) {
    const struct Outcome outcome = TryTcp((const struct sockaddr*)&to, size);
    silent += strcmp(outcome.word, "silence") == 0 ? 1 : 0;
    if (strcmp(outcome.word, "open") == 0) {
      printf("reached\n");
    }
    if (tried % 500 == 0) {
      printf("tried %ld silent %ld\n", tried, silent);
    }
    usleep(50);
  }
}

static int Resolve(const char* name) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
  struct addrinfo* found = NULL;
  const int error = getaddrinfo(name, NULL, &hints, &found);
  if (error != 0) {
    fprintf(stderr, "network_probe: %s: %s\n", name, gai_strerror(error));
    return 1;
  }
  for (const struct addrinfo* entry = found; entry != NULL; entry = entry->ai_next) {
    char host[64] = "";
    getnameinfo(entry->ai_addr, entry->ai_addrlen, host, sizeof host, NULL, 0, NI_NUMERICHOST);
    printf("%s\n", host);
  }
  return 0;
}

static void End(int signal_number) {
  (void)signal_number;
  _exit(0);
}

int main(int argc, char** argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  signal(SIGTERM, End);
  if (argc == 3 && strcmp(argv[1], "serve") == 0) {
    return Serve(argv[2]);
  }
  if (argc >= 3 && strcmp(argv[1], "try") == 0) {
    return TryAll(argc - 2, argv + 2);
  }
  if (argc == 4 && strcmp(argv[1], "hold") == 0) {
    return Hold(argv[2], argv[3]);
  }
  if (argc == 4 && strcmp(argv[1], "hammer") == 0) {
    return Hammer(argv[2], argv[3]);
  }
  if (argc == 3 && strcmp(argv[1], "resolve") == 0) {
    return Resolve(argv[2]);
  }
  fprintf(stderr, "usage: network_probe serve|try|hold|hammer|resolve ...\n");
  return 2;
}
