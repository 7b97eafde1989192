/* The kernels against plain loops in float64, for odd shapes, all kinds of weights and many rows.
 *
 * test_portable.py links this with the libraries of this processor; with the sources and sanitizers;
 * and for other processors, where an emulator runs it. Says what differs, and exits with 1. The last
 * line is a fingerprint of all products. With an argument no process is forked: emulators and
 * ThreadSanitizer support no threads in a forked child. */

#include "check_threads.h"

int main(int argc, char **argv) {
    (void)argv;
    check_matrices();
    uint64_t products = seen;
    check_networks();
    check_meetings();
    check_callers();
    if (argc == 1) check_forks();
    if (!faults) printf("all equal\n");
    printf("%016llx\n", (unsigned long long)products);
    return faults != 0;
}
