/* The smallest first process there can be: says that it runs, and switches the machine off. */
#include <sys/reboot.h>
#include <unistd.h>

int main(void) {
  static const char line[] = "bare: first process\n";
  if (write(STDERR_FILENO, line, sizeof line - 1) < 0) return 1;
  return reboot(RB_POWER_OFF);
}
