/* The least that a forwarder in user space can do: takes a connection, opens another, moves the bytes of both. No names, no
 * counters, no resets, no two networks, and a peer that does not read blocks it. It shows what the way costs.
 * usage: bare_forwarder PORT ADDRESS ADDRESS_PORT   listens on 127.0.0.1; one thread for each processor */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { kBuffer = 256 << 10, kEvents = 64 };

struct side {
  struct side *other, *next;
  int fd, ended, closed;
};

static int listener;
static struct sockaddr_in target;

static void watch(int epoll, int fd, struct side *side) {
  struct epoll_event event = {.events = side ? EPOLLIN : EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = side};
  epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void begin(int epoll) {
  const int client = accept4(listener, NULL, NULL, 0), on = 1;
  if (client < 0) return;
  const int service = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(service, (struct sockaddr *)&target, sizeof target) != 0) {
    close(client);
    close(service);
    return;
  }
  setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(service, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  struct side *sides = calloc(2, sizeof *sides);
  for (int i = 0; i < 2; ++i) {
    sides[i].other = &sides[1 - i];
    sides[i].fd = i == 0 ? client : service;
    watch(epoll, sides[i].fd, &sides[i]);
  }
}

/* Both sides' memory is one piece, at the lower address; it is freed when no event of this turn can mean it. */
static void end(struct side *side, struct side **ended) {
  struct side *first = side < side->other ? side : side->other;
  if (first->closed) return;
  first->closed = first[1].closed = 1;
  close(first->fd);
  close(first[1].fd);
  first->next = *ended;
  *ended = first;
}

static void move(int epoll, struct side *side, char *buffer, struct side **ended) {
  const ssize_t count = read(side->fd, buffer, kBuffer);
  for (ssize_t sent = 0; sent < count;) {
    const ssize_t part = send(side->other->fd, buffer + sent, count - sent, MSG_NOSIGNAL);
    if (part <= 0) {
      end(side, ended);
      return;
    }
    sent += part;
  }
  if (count > 0) return;
  side->ended = 1;
  if (count < 0 || side->other->ended) {
    end(side, ended);
    return;
  }
  epoll_ctl(epoll, EPOLL_CTL_DEL, side->fd, NULL);
  shutdown(side->other->fd, SHUT_WR);
}

static void *run(void *unused) {
  char *buffer = malloc(kBuffer);
  const int epoll = epoll_create1(0);
  watch(epoll, listener, NULL);
  while (1) {
    struct epoll_event events[kEvents];
    struct side *ended = NULL;
    const int count = epoll_wait(epoll, events, kEvents, -1);
    for (int i = 0; i < count; ++i) {
      struct side *side = events[i].data.ptr;
      if (side == NULL) {
        begin(epoll);
      } else if (!side->closed) {
        move(epoll, side, buffer, &ended);
      }
    }
    while (ended != NULL) {
      struct side *next = ended->next;
      free(ended);
      ended = next;
    }
  }
  return unused;
}

int main(int count, char **words) {
  if (count != 4) return 2;
  struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1])),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  target = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(words[3]))};
  inet_pton(AF_INET, words[2], &target.sin_addr);
  const int on = 1;
  listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (struct sockaddr *)&own, sizeof own) != 0 || listen(listener, 512) != 0) {
    perror("bare_forwarder");
    return 1;
  }
  for (long more = sysconf(_SC_NPROCESSORS_ONLN); more > 1; --more) {
    pthread_t thread;
    pthread_create(&thread, NULL, run, NULL);
  }
  run(NULL);
}
