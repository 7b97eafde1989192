/* Which compiled kernels this processor runs. This file is compiled for any processor. */

#if defined(__x86_64__)
#define HAS(name) __builtin_cpu_supports(name)

const char *gptcli_kind(void) {
    __builtin_cpu_init();
    if (!HAS("avx2") || !HAS("fma")) return "baseline"; /* AVX2 implies float16 conversions */
    if (!HAS("avx512f") || !HAS("avx512bw") || !HAS("avx512dq") || !HAS("avx512vl")) return "avx2";
    return HAS("avx512vnni") ? "avx512vnni" : "avx512";
}

#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

const char *gptcli_kind(void) {
    const unsigned long dot_products = 1ul << 20; /* HWCAP_ASIMDDP */
    return getauxval(AT_HWCAP) & dot_products ? "dotprod" : "baseline";
}

#elif defined(__aarch64__) && defined(__APPLE__)

const char *gptcli_kind(void) { return "dotprod"; } /* all of Apple's processors for Macs */

#else

const char *gptcli_kind(void) { return "baseline"; }
#endif
