/* Which compiled kernels this processor runs. This file is compiled for any processor. */

#define HAS(name) __builtin_cpu_supports(name)

const char *gptcli_kind(void) {
    __builtin_cpu_init();
    if (!HAS("avx2") || !HAS("fma")) return ""; /* AVX2 implies float16 conversions */
    if (!HAS("avx512f") || !HAS("avx512bw") || !HAS("avx512dq") || !HAS("avx512vl")) return "avx2";
    if (!HAS("avx512cd")) return "avx2";
    return HAS("avx512vnni") ? "avx512vnni" : "avx512";
}
