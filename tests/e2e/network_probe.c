// What a service can reach, tried from inside: a static program that an app carries in its files.
//
//   network_probe serve PORT [NAME] TCP (says "hello from NAME" to whoever comes) and UDP (answers "NAME heard" and what it
//                                   heard), IPv4 and IPv6
//   network_probe try WHAT...       one line of JSON for each WHAT: {"what", "outcome", "error", "answer", "ms"}
//   network_probe hold ADDRESS PORT connects, says "connected", and writes a byte each 50 ms until that fails
//   network_probe hammer ADDRESS PORT  connects and sends a datagram without end; says "reached" when one of them is answered,
//                                   and now and then how often it tried and how often there was no answer within the patience
//   network_probe resolve NAME      the C library's addresses of a name, one a line
//
// And for a test that looks on with every privilege:
//
//   network_probe in NAMESPACE COMMAND...  a command of these in a network namespace (a file)
//   network_probe listening         "PROTOCOL PORT" of each socket that listens, one a line
//   network_probe allow_ping        lets everybody send ICMP echo requests
//   network_probe hear NAMESPACE... says "hearing", and then each packet with a NUMBER that comes into an interface of these
//                                   network namespaces, as a line of JSON: {"where", "interface", "what", "number", "from"};
//                                   ends soon after the last NUMBER, 29999
//   network_probe forge HARDWARE WHAT...  sends frames from eth0 to a hardware address
//
// WHAT is PROTOCOL,ADDRESS,PORT, an address of IPv6 with %INTERFACE where it needs one; vsock,CID,PORT; as-PROTOCOL,SOURCE,TO,NUMBER
// from an address that is not its own; or an attempt at what no service may do: raw4, raw6, packet, address, transparent.
// For forge it is PROTOCOL,SOURCE,TO,NUMBER and, if wanted, ,HARDWARE: the sender's. PROTOCOL is tcp, udp or icmp. A NUMBER
// tells one packet from another: its port, or an echo request's sequence number.
// An outcome is "open", "refused" (an error came back), "silence" (nothing did), "sent" (which says nothing about whether
// it arrives) or "forbidden" (no such socket).
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <linux/vm_sockets.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <netinet/icmp6.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
  kPatienceMs = 3000,
  kHammersPatienceMs = 50,  // what gets no answer is not to keep it from the moments after
  kFirstNumber = 20000,
  kLastNumber = 29999,
  kHearingOnMs = 300,
};

static double Now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static socklen_t Parse(const char* text, const char* port, struct sockaddr_storage* address) {
  struct addrinfo hints = {.ai_flags = AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
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
  char answer[64];
};

static struct Outcome Failed(int error) {
  return (struct Outcome){error == ETIMEDOUT ? "silence" : "refused", error, ""};
}

static struct Outcome Forbidden(int error) {
  return (struct Outcome){"forbidden", error, ""};
}

// Waits for an answer on a connected socket.
static struct Outcome Answer(int fd, int patience) {
  struct pollfd readable = {fd, POLLIN, 0};
  struct Outcome outcome = {"silence", 0, ""};
  if (poll(&readable, 1, patience) != 1) {
    return outcome;
  }
  const ssize_t count = recv(fd, outcome.answer, sizeof outcome.answer - 1, 0);
  if (count < 0) {
    return Failed(errno);
  }
  outcome.word = "open";
  // It goes into JSON.
  for (ssize_t index = 0; index < count; ++index) {
    const char byte = outcome.answer[index];
    if (byte < ' ' || byte > '~' || byte == '"' || byte == '\\') {
      outcome.answer[index] = ' ';
    }
  }
  return outcome;
}

// Open when it connects; the answer is what the server says first.
static struct Outcome TryTcp(const struct sockaddr* to, socklen_t size, int patience) {
  const int fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (connect(fd, to, size) != 0 && errno != EINPROGRESS) {
    const int error = errno;
    close(fd);
    return Failed(error);
  }
  struct pollfd writable = {fd, POLLOUT, 0};
  int error = ETIMEDOUT;
  socklen_t length = sizeof error;
  if (poll(&writable, 1, patience) == 1) {
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
  }
  struct Outcome outcome = Failed(error);
  if (error == 0) {
    outcome = Answer(fd, patience);
    outcome.word = "open";
    outcome.error = 0;
  }
  close(fd);
  return outcome;
}

static struct Outcome TryUdp(const struct sockaddr* to, socklen_t size) {
  const int fd = socket(to->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct Outcome outcome;
  if (connect(fd, to, size) != 0 || send(fd, "ping", 4, 0) != 4) {
    outcome = Failed(errno);
  } else {
    outcome = Answer(fd, kPatienceMs);
  }
  close(fd);
  return outcome;
}

static struct Outcome TryIcmp(const struct sockaddr* to, socklen_t size) {
  const int ipv6 = to->sa_family == AF_INET6;
  const int fd = socket(to->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
  if (fd < 0) {
    return Forbidden(errno);
  }
  unsigned char echo[16] = {ipv6 ? ICMP6_ECHO_REQUEST : ICMP_ECHO};
  const double nonce = Now();
  memcpy(echo + 8, &nonce, sizeof nonce);
  const int on = 1;  // errors are told to those sockets that ask for them
  setsockopt(fd, ipv6 ? IPPROTO_IPV6 : IPPROTO_IP, ipv6 ? IPV6_RECVERR : IP_RECVERR, &on, sizeof on);
  struct Outcome outcome;
  if (connect(fd, to, size) != 0 || send(fd, echo, sizeof echo, 0) != sizeof echo) {
    outcome = Failed(errno);
  } else {
    struct pollfd readable = {fd, POLLIN, 0};
    unsigned char reply[sizeof echo] = "";
    outcome = (struct Outcome){"silence", 0, ""};
    if (poll(&readable, 1, kPatienceMs) == 1) {
      const ssize_t count = recv(fd, reply, sizeof reply, 0);
      outcome = count < 0 ? Failed(errno) : (struct Outcome){"open", 0, ""};
      if (count == sizeof reply && memcmp(reply + 8, &nonce, sizeof nonce) == 0) {
        strcpy(outcome.answer, "echo");
      }
    }
  }
  close(fd);
  return outcome;
}

static struct Outcome TryVsock(const char* cid, const char* port) {
  const int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    return Forbidden(errno);
  }
  const struct sockaddr_vm to = {
      .svm_family = AF_VSOCK, .svm_cid = (unsigned)strtoul(cid, NULL, 10), .svm_port = (unsigned)strtoul(port, NULL, 10)};
  struct pollfd writable = {fd, POLLOUT, 0};
  int error = connect(fd, (const struct sockaddr*)&to, sizeof to) != 0 ? errno : 0;
  socklen_t length = sizeof error;
  if (error == EINPROGRESS) {
    error = ETIMEDOUT;
    if (poll(&writable, 1, kPatienceMs) == 1) {
      getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    }
  }
  close(fd);
  return error == 0 ? (struct Outcome){"open", 0, ""} : Failed(error);
}

static struct Outcome TrySocket(int family, int type, int protocol) {
  const int fd = socket(family, type | SOCK_CLOEXEC, protocol);
  const struct Outcome outcome = fd < 0 ? Forbidden(errno) : (struct Outcome){"open", 0, ""};
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
    return Forbidden(errno);
  }
  close(fd);
  return answer.error.error != 0 ? Forbidden(-answer.error.error) : (struct Outcome){"open", 0, ""};
}

static struct Outcome TryTransparent(void) {
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  const int failed = setsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &on, sizeof on) != 0;
  const struct Outcome outcome = failed ? Forbidden(errno) : (struct Outcome){"open", 0, ""};
  close(fd);
  return outcome;
}

// From an address that is not its own, which needs no privilege to bind to.
static struct Outcome TryAs(const char* protocol, const char* source, const char* to, const char* number) {
  struct sockaddr_storage from, target;
  const bool tcp = strcmp(protocol, "tcp") == 0, icmp = strcmp(protocol, "icmp") == 0;
  const socklen_t from_size = Parse(source, "0", &from);
  const socklen_t target_size = Parse(to, icmp ? "0" : number, &target);
  const bool ipv6 = from.ss_family == AF_INET6;
  const int fd = socket(from.ss_family, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC,
                        !icmp ? 0 : ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
  const int on = 1;
  if (fd < 0 ||
      setsockopt(fd, ipv6 ? IPPROTO_IPV6 : IPPROTO_IP, ipv6 ? 78 /* IPV6_FREEBIND */ : IP_FREEBIND, &on, sizeof on) != 0 ||
      bind(fd, (const struct sockaddr*)&from, from_size) != 0) {
    return Forbidden(errno);
  }
  struct Outcome outcome = {"sent", 0, ""};
  const unsigned short sequence = htons((unsigned short)atoi(number));
  unsigned char echo[16] = {ipv6 ? ICMP6_ECHO_REQUEST : ICMP_ECHO};
  memcpy(echo + 6, &sequence, sizeof sequence);
  const struct sockaddr* address = (const struct sockaddr*)&target;
  if (tcp && connect(fd, address, target_size) != 0 && errno != EINPROGRESS) {
    outcome = Forbidden(errno);
  } else if (!tcp && sendto(fd, icmp ? (const void*)echo : "spoofed", icmp ? sizeof echo : 7, 0, address, target_size) < 0) {
    outcome = Forbidden(errno);
  } else if (tcp) {
    usleep(20 * 1000);  // its neighbour may have to be found first
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
  if (strncmp(protocol, "as-", 3) == 0 && c != NULL) {
    return TryAs(protocol + 3, a, b, c);
  }
  if (b == NULL) {
    fprintf(stderr, "network_probe: what is %s?\n", protocol);
    exit(2);
  }
  if (strcmp(protocol, "vsock") == 0) {
    return TryVsock(a, b);
  }
  struct sockaddr_storage to;
  const socklen_t size = Parse(a, b, &to);
  const struct sockaddr* address = (const struct sockaddr*)&to;
  return strcmp(protocol, "tcp") == 0   ? TryTcp(address, size, kPatienceMs)
         : strcmp(protocol, "udp") == 0 ? TryUdp(address, size)
                                        : TryIcmp(address, size);
}

enum { kMostParts = 5 };

/* What stands between the commas; NULL where there is no more. */
struct What {
  char text[256];
  const char* part[kMostParts];
};

static void Split(const char* text, struct What* what) {
  snprintf(what->text, sizeof what->text, "%s", text);
  char* rest = what->text;
  for (int index = 0; index < kMostParts; ++index) what->part[index] = strsep(&rest, ",");
}

static int TryAll(int count, char** whats) {
  for (int index = 0; index < count; ++index) {
    struct What what;
    Split(whats[index], &what);
    const double begun = Now();
    const struct Outcome outcome = Try(what.part[0], what.part[1], what.part[2], what.part[3]);
    printf("{\"what\": \"%s\", \"outcome\": \"%s\", \"error\": \"%s\", \"answer\": \"%s\", \"ms\": %.1f}\n", whats[index],
           outcome.word, outcome.error == 0 ? "" : strerror(outcome.error), outcome.answer, Now() - begun);
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

static int Serve(const char* port, const char* name) {
  const int tcp = Bound(SOCK_STREAM, port), udp = Bound(SOCK_DGRAM, port);
  listen(tcp, 128);
  printf("serving\n");
  char hello[64];
  const int hello_length = snprintf(hello, sizeof hello, "hello from %s\n", name);
  double hammered = 0;
  struct pollfd fds[256] = {{tcp, POLLIN, 0}, {udp, POLLIN, 0}};
  int count = 2;
  while (poll(fds, (nfds_t)count, -1) > 0) {
    if ((fds[1].revents & POLLIN) != 0) {
      char buffer[2048], answer[2300];
      char host[64] = "";
      struct sockaddr_storage from;
      socklen_t size = sizeof from;
      const ssize_t length = recvfrom(udp, buffer, sizeof buffer, 0, (struct sockaddr*)&from, &size);
      getnameinfo((const struct sockaddr*)&from, size, host, sizeof host, NULL, 0, NI_NUMERICHOST);
      // A hammer would fill the log.
      if (length > 0 && (memcmp(buffer, "hammer", 6) != 0 || Now() > hammered + 1000)) {
        printf("got %.*s from %s\n", (int)length, buffer, host);
        hammered = memcmp(buffer, "hammer", 6) == 0 ? Now() : hammered;
      }
      if (length > 0) {
        const int count = snprintf(answer, sizeof answer, "%s heard %.*s", name, (int)length, buffer);
        sendto(udp, answer, (size_t)count, 0, (const struct sockaddr*)&from, size);
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
      if (connection >= 0 && (send(connection, hello, (size_t)hello_length, MSG_NOSIGNAL) < 0 || count == 256)) {
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

static void Hammer(const char* text, const char* port) {
  struct sockaddr_storage to;
  const socklen_t size = Parse(text, port, &to);
  const int udp = socket(to.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  connect(udp, (const struct sockaddr*)&to, size);
  long silent = 0, reached = 0;
  double said = Now();
  for (long tried = 1;; ++tried) {
    char answer[64];
    const ssize_t sent = send(udp, "hammer", 6, 0);  // fails with what came back before
    (void)sent;
    const struct Outcome outcome = TryTcp((const struct sockaddr*)&to, size, kHammersPatienceMs);
    const bool answered = strcmp(outcome.word, "open") == 0 || recv(udp, answer, sizeof answer, 0) > 0;
    silent += strcmp(outcome.word, "silence") == 0 ? 1 : 0;
    // Each time would fill the log.
    if (answered && reached++ % 100 == 0) {
      printf("reached\n");
    }
    if (Now() > said + 50) {
      printf("tried %ld silent %ld\n", tried, silent);
      said = Now();
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

static int Listening(void) {
  static const char* const kTables[] = {"tcp", "tcp6", "udp", "udp6"};
  for (int table = 0; table < 4; ++table) {
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/self/net/%s", kTables[table]);
    FILE* file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
      unsigned port, state;
      // TCP_LISTEN, and TCP_CLOSE for a datagram socket that takes from everybody.
      if (sscanf(line, " %*d: %*[0-9A-F]:%x %*[0-9A-F]:%*x %x", &port, &state) == 2 && state == (table < 2 ? 0x0a : 0x07)) {
        printf("%.3s %u\n", kTables[table], port);
      }
    }
    if (file == NULL || fclose(file) != 0) {
      perror(path);
      return 1;
    }
  }
  return 0;
}

static int AllowPing(void) {
  const int fd = open("/proc/sys/net/ipv4/ping_group_range", O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, "0 2147483647", 12) != 12) {
    perror("network_probe: ping_group_range");
    return 1;
  }
  close(fd);
  return 0;
}

static void Enter(const char* network_namespace) {
  const int fd = open(network_namespace, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || setns(fd, CLONE_NEWNET) != 0) {
    perror(network_namespace);
    exit(1);
  }
  close(fd);
}

// Of one interface; of all of them for 0.
static int PacketSocket(unsigned interface) {
  const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
  const struct sockaddr_ll address = {
      .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)interface};
  if (fd < 0 || bind(fd, (const struct sockaddr*)&address, sizeof address) != 0) {
    perror("network_probe: a packet socket");
    exit(1);
  }
  return fd;
}

static unsigned Short(const unsigned char* bytes) {
  return (unsigned)bytes[0] << 8 | bytes[1];
}

// The packet's number, or 0.
static unsigned Tell(int where, const char* interface, const unsigned char* frame, size_t length) {
  const bool ipv6 = length >= 14 && Short(frame + 12) == ETHERTYPE_IPV6;
  const size_t header = ipv6 ? 40 : 20;
  if (length < 14 + header + 8 || (!ipv6 && Short(frame + 12) != ETHERTYPE_IP)) {
    return 0;
  }
  const unsigned char* packet = frame + 14;
  const unsigned char* inner = packet + header;  // nobody here sends options
  const int protocol = packet[ipv6 ? 6 : 9];
  const bool echo = protocol == (ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP) && inner[0] == (ipv6 ? ICMP6_ECHO_REQUEST : ICMP_ECHO);
  if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && !echo) {
    return 0;
  }
  const unsigned number = Short(inner + (echo ? 6 : 2));
  if (number < kFirstNumber || number > kLastNumber) {
    return 0;
  }
  char from[64];
  inet_ntop(ipv6 ? AF_INET6 : AF_INET, packet + (ipv6 ? 8 : 12), from, sizeof from);
  printf("{\"where\": %d, \"interface\": \"%s\", \"what\": \"%s%d\", \"number\": %u, \"from\": \"%s\"}\n", where, interface,
         echo ? "icmp" : protocol == IPPROTO_TCP ? "tcp" : "udp", ipv6 ? 6 : 4, number, from);
  return number;
}

enum { kMostPlaces = 16 };

static int Hear(int count, char** namespaces) {
  struct pollfd fds[kMostPlaces];
  if (count > kMostPlaces) {
    return 2;
  }
  for (int index = 0; index < count; ++index) {
    Enter(namespaces[index]);
    fds[index] = (struct pollfd){PacketSocket(0), POLLIN, 0};
  }
  printf("hearing\n");
  double end = 1e300;
  while (Now() < end) {
    poll(fds, (nfds_t)count, 50);
    for (int index = 0; index < count; ++index) {
      unsigned char frame[2048];
      struct sockaddr_ll from;
      socklen_t size = sizeof from;
      ssize_t length = 0;
      while ((length = recvfrom(fds[index].fd, frame, sizeof frame, MSG_DONTWAIT, (struct sockaddr*)&from, &size)) > 0) {
        struct ifreq interface = {.ifr_ifindex = from.sll_ifindex};
        size = sizeof from;
        if (from.sll_pkttype == PACKET_OUTGOING || ioctl(fds[index].fd, SIOCGIFNAME, &interface) != 0) {
          continue;
        }
        if (Tell(index, interface.ifr_name, frame, (size_t)length) == kLastNumber && end > 1e299) {
          end = Now() + kHearingOnMs;
        }
      }
    }
  }
  return 0;
}

static uint32_t Sum(uint32_t sum, const unsigned char* bytes, size_t count) {
  for (size_t index = 0; index < count; index += 2) {
    sum += Short(bytes + index);  // all that is summed has an even length
  }
  return sum;
}

static void PutShort(unsigned char* bytes, unsigned value) {
  bytes[0] = (unsigned char)(value >> 8);
  bytes[1] = (unsigned char)value;
}

static void PutChecksum(unsigned char* bytes, uint32_t sum) {
  while (sum >> 16 != 0) {
    sum = (sum & 0xffff) + (sum >> 16);
  }
  PutShort(bytes, ~sum & 0xffff);
}

static void ParseHardware(const char* text, unsigned char* hardware) {
  if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", hardware, hardware + 1, hardware + 2, hardware + 3, hardware + 4,
             hardware + 5) != 6) {
    fprintf(stderr, "network_probe: %s is not a hardware address\n", text);
    exit(2);
  }
}

// The packet of a frame; returns its length.
static size_t Packet(const char* protocol, const char* source, const char* to, unsigned number, unsigned char* packet) {
  struct sockaddr_storage addresses[2];
  Parse(source, "0", &addresses[0]);
  Parse(to, "0", &addresses[1]);
  const bool ipv6 = addresses[0].ss_family == AF_INET6;
  const bool tcp = strcmp(protocol, "tcp") == 0, udp = strcmp(protocol, "udp") == 0;
  const unsigned inner_length = tcp ? 20 : 16;
  const unsigned char number_of_protocol = tcp    ? IPPROTO_TCP
                                           : udp  ? IPPROTO_UDP
                                           : ipv6 ? IPPROTO_ICMPV6
                                                  : IPPROTO_ICMP;
  unsigned char* const inner = packet + (ipv6 ? 40 : 20);
  memset(packet, 0, 40 + inner_length);
  if (ipv6) {
    packet[0] = 0x60;
    PutShort(packet + 4, inner_length);
    packet[6] = number_of_protocol;
    packet[7] = 64;
  } else {
    packet[0] = 0x45;
    PutShort(packet + 2, 20 + inner_length);
    packet[8] = 64;
    packet[9] = number_of_protocol;
  }
  for (int index = 0; index < 2; ++index) {
    if (ipv6) {
      memcpy(packet + 8 + 16 * index, &((struct sockaddr_in6*)&addresses[index])->sin6_addr, 16);
    } else {
      memcpy(packet + 12 + 4 * index, &((struct sockaddr_in*)&addresses[index])->sin_addr, 4);
    }
  }
  if (!ipv6) {
    PutChecksum(packet + 10, Sum(0, packet, 20));
  }
  if (tcp || udp) {
    PutShort(inner, 4242);
    PutShort(inner + 2, number);
  } else {
    inner[0] = ipv6 ? ICMP6_ECHO_REQUEST : ICMP_ECHO;
    PutShort(inner + 4, 4242);
    PutShort(inner + 6, number);
  }
  if (tcp) {
    PutShort(inner + 4, number);  // the sequence number
    inner[12] = 5 << 4;
    inner[13] = 2;  // SYN
    PutShort(inner + 14, 64000);
  } else if (udp) {
    PutShort(inner + 4, inner_length);
  }
  const uint32_t pseudo_header =
      tcp || udp || ipv6
          ? Sum(number_of_protocol + inner_length, packet + (ipv6 ? 8 : 12), ipv6 ? 32 : 8)
          : 0;
  PutChecksum(inner + (tcp ? 16 : udp ? 6 : 2), Sum(pseudo_header, inner, inner_length));
  return (size_t)(inner - packet) + inner_length;
}

static int Forge(const char* hardware, int count, char** whats) {
  const int fd = PacketSocket(if_nametoindex("eth0"));
  struct ifreq own = {.ifr_name = "eth0"};
  if (ioctl(fd, SIOCGIFHWADDR, &own) != 0) {
    perror("network_probe: eth0");
    return 1;
  }
  for (int index = 0; index < count; ++index) {
    struct What what;
    Split(whats[index], &what);
    const char *protocol = what.part[0], *source = what.part[1], *to = what.part[2], *number = what.part[3];
    if (number == NULL) {
      fprintf(stderr, "network_probe: what is %s?\n", whats[index]);
      return 2;
    }
    unsigned char frame[128];
    ParseHardware(hardware, frame);
    memcpy(frame + 6, own.ifr_hwaddr.sa_data, 6);
    if (what.part[4] != NULL) {
      ParseHardware(what.part[4], frame + 6);
    }
    PutShort(frame + 12, strchr(source, ':') != NULL ? ETHERTYPE_IPV6 : ETHERTYPE_IP);
    const size_t length = 14 + Packet(protocol, source, to, (unsigned)atoi(number), frame + 14);
    if (send(fd, frame, length, 0) != (ssize_t)length) {
      perror("network_probe: send a frame");
      return 1;
    }
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
  while (argc > 3 && strcmp(argv[1], "in") == 0) {
    Enter(argv[2]);
    argv += 2;
    argc -= 2;
  }
  if ((argc == 3 || argc == 4) && strcmp(argv[1], "serve") == 0) {
    return Serve(argv[2], argc == 4 ? argv[3] : "a server");
  }
  if (argc >= 3 && strcmp(argv[1], "try") == 0) {
    return TryAll(argc - 2, argv + 2);
  }
  if (argc == 4 && strcmp(argv[1], "hold") == 0) {
    return Hold(argv[2], argv[3]);
  }
  if (argc == 4 && strcmp(argv[1], "hammer") == 0) {
    Hammer(argv[2], argv[3]);
  }
  if (argc == 3 && strcmp(argv[1], "resolve") == 0) {
    return Resolve(argv[2]);
  }
  if (argc == 2 && strcmp(argv[1], "listening") == 0) {
    return Listening();
  }
  if (argc == 2 && strcmp(argv[1], "allow_ping") == 0) {
    return AllowPing();
  }
  if (argc >= 3 && strcmp(argv[1], "hear") == 0) {
    return Hear(argc - 2, argv + 2);
  }
  if (argc >= 4 && strcmp(argv[1], "forge") == 0) {
    return Forge(argv[2], argc - 3, argv + 3);
  }
  fprintf(stderr, "usage: network_probe serve|try|hold|hammer|resolve|in|listening|allow_ping|hear|forge ...\n");
  return 2;
}
