"""What a filter of system calls can return: actions, and 16 bits of data for two of them."""

# Return values of filters, linux/seccomp.h; the low 16 bits of ERRNO and TRACE are data.
KILL_PROCESS = 0x80000000
KILL_THREAD = 0x00000000
TRAP = 0x00030000
ERRNO = 0x00050000
NOTIFY = 0x7FC00000
TRACE = 0x7FF00000
LOG = 0x7FFC0000
ALLOW = 0x7FFF0000

MOST_DATA = 0xFFFF
