/* Stands in the supervisor's place in a guest and serves the load there, with nothing between it and qemu's hostfwd. The
 * image has two programs of Vibe's; port-load is in the other's place. */
#include <stdio.h>
#include <unistd.h>

int main(void) {
  execl("/usr/bin/vibe-logger", "port-load", "serve", "9000", (char*)NULL);
  perror("port-load");
  return 1;
}
