/* check.h - what every C test starts from: CHECK, one line for each property, and sizes that a soak can raise. */
#ifndef FP_TEST_CHECK_H
#define FP_TEST_CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Sanitizers slow threads down; what they look for does not need the numbers. */
#if defined(__has_feature)
#define TEST_HAS_FEATURE(name) __has_feature(name)
#else
#define TEST_HAS_FEATURE(name) 0
#endif
#if defined(__SANITIZE_THREAD__) || TEST_HAS_FEATURE(thread_sanitizer)
#define TEST_SHARE 0.1
#elif defined(__SANITIZE_ADDRESS__) || TEST_HAS_FEATURE(address_sanitizer)
#define TEST_SHARE 0.25
#else
#define TEST_SHARE 1.0
#endif

/* The property that is being tested; a failure names it. */
static const char *test_property = "start";

/* Ends the program: other threads of a failed test cannot be trusted to stop. */
__attribute__((noreturn, unused)) static void test_fail(const char *what, const char *file, int line)
{
    fflush(stdout);
    fprintf(stderr, "FAIL  %s\n      %s:%d: %s\n", test_property, file, line, what);
    fflush(stderr);
    _exit(1);
}

#define CHECK(expression) ((expression) ? (void)0 : test_fail(#expression, __FILE__, __LINE__))

/* Two unsigned numbers that must be equal; a failure prints them. */
#define CHECK_EQUAL(left, right)                                                                                       \
    do {                                                                                                               \
        uint64_t left_ = (uint64_t)(left), right_ = (uint64_t)(right);                                                 \
        if (left_ != right_) {                                                                                         \
            fprintf(stderr, "      %llu != %llu\n", (unsigned long long)left_, (unsigned long long)right_);            \
            test_fail(#left " == " #right, __FILE__, __LINE__);                                                        \
        }                                                                                                              \
    } while (0)

/* Runs one property, and says so when it held. */
#define PROPERTY(name, ...)                                                                                            \
    do {                                                                                                               \
        test_property = name;                                                                                          \
        __VA_ARGS__;                                                                                                   \
        printf("ok    %s\n", name);                                                                                    \
        fflush(stdout);                                                                                                \
    } while (0)

/* `n` rounds in CI, a share of them under a sanitizer; FP_TEST_SCALE times as many in a soak; at least 1. */
__attribute__((unused)) static int64_t test_rounds(int64_t n)
{
    const char *scale = getenv("FP_TEST_SCALE");
    double rounds = (double)n * (scale != NULL ? atof(scale) : 1.0) * TEST_SHARE;
    return rounds < 1 ? 1 : (int64_t)rounds;
}

/* A small generator (xorshift64*), one for each thread; the same numbers in every run. */
typedef struct test_random {
    uint64_t state;
} test_random;

__attribute__((unused)) static uint32_t test_random_below(test_random *random, uint32_t limit)
{
    random->state ^= random->state >> 12;
    random->state ^= random->state << 25;
    random->state ^= random->state >> 27;
    return (uint32_t)((random->state * UINT64_C(2685821657736338717)) >> 33) % limit;
}

#endif
