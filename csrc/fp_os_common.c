/* fp_os_common.c - what every POSIX system has: clock, threads, mutexes, forks; and how many CPUs are ours. */
#define _GNU_SOURCE
#include "fp_os.h"

#include <sched.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int64_t fp_os_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void fp_mutex_init(fp_mutex *mutex)
{
    pthread_mutex_init(mutex, NULL);
}

void fp_mutex_destroy(fp_mutex *mutex)
{
    pthread_mutex_destroy(mutex);
}

void fp_mutex_lock(fp_mutex *mutex)
{
    pthread_mutex_lock(mutex);
}

void fp_mutex_unlock(fp_mutex *mutex)
{
    pthread_mutex_unlock(mutex);
}

/* Some systems give threads a small part of what the main one has, and a job may recurse as deeply as there. */
enum { LEAST_STACK_BYTES = 8 << 20 };

int fp_thread_start(fp_thread *thread, void *(*main)(void *), void *arg)
{
    pthread_attr_t attributes;
    size_t stack_bytes;
    pthread_attr_init(&attributes);
    if (pthread_attr_getstacksize(&attributes, &stack_bytes) == 0 && stack_bytes < LEAST_STACK_BYTES)
        pthread_attr_setstacksize(&attributes, LEAST_STACK_BYTES);
    int error = pthread_create(thread, &attributes, main, arg);
    pthread_attr_destroy(&attributes);
    return error;
}

void fp_thread_join(fp_thread thread)
{
    pthread_join(thread, NULL);
}

void fp_thread_detach(fp_thread thread)
{
    pthread_detach(thread);
}

bool fp_thread_is_self(fp_thread thread)
{
    return pthread_equal(thread, pthread_self()) != 0;
}

void fp_thread_set_name(const char *name)
{
    char short_name[16]; /* the kernel's limit; a longer name would be refused whole */
    snprintf(short_name, sizeof short_name, "%s", name);
#if defined(__APPLE__)
    pthread_setname_np(short_name);
#elif defined(__linux__)
    pthread_setname_np(pthread_self(), short_name);
#endif
}

#ifdef __linux__
/* cgroup v2's "quota period" or "max period"; INT_MAX where there is no limit to be read. */
static int cgroup_cpus(void)
{
    long long quota, period;
    int limit = INT32_MAX;
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (file == NULL)
        return limit;
    if (fscanf(file, "%lld %lld", &quota, &period) == 2 && quota > 0 && period > 0) {
        long long cpus = (quota + period - 1) / period; /* up: a quota of half a CPU is still one worker */
        limit = cpus < INT32_MAX ? (int)cpus : INT32_MAX;
    }
    fclose(file);
    return limit;
}
#endif

int fp_os_usable_cpus(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
#ifdef __linux__
    cpu_set_t mask;
    if (sched_getaffinity(0, sizeof mask, &mask) == 0)
        count = CPU_COUNT(&mask);
    int limit = cgroup_cpus();
    if (limit < count)
        count = limit;
#endif
    return count < 1 ? 1 : (int)count;
}

uint32_t fp_os_fork_generation;

static void count_fork(void)
{
    fp_os_fork_generation++; /* plain: the child has one thread */
}

__attribute__((constructor)) static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, count_fork);
}
