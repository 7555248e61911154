// The least that PID 1 can do: power off.
#include <sys/reboot.h>

int main(void) { return reboot(RB_AUTOBOOT); }
