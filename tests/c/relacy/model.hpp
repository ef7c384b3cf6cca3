/* model.hpp - what the models share: csrc compiled for Relacy, orders that can be weakened from outside, and main's body.
 *
 * A model is a rl::test_suite over the very .c files of csrc, included as C++. Each order that has a label in csrc becomes
 * a variable that starts with csrc's own value; "LABEL=relaxed" on the command line makes the mutant.
 */
#ifndef FP_MODEL_HPP
#define FP_MODEL_HPP

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>

#define FP_RELACY
#include "fp_atomic.h"

struct label {
    const char *name;
    rl::memory_order *order;
    label *next;
    static label *first;
    label(const char *name, rl::memory_order *order) : name(name), order(order), next(first)
    {
        first = this;
    }
};
label *label::first;

/* A change of another kind, made by a .sed file in a copy of csrc; its name on the command line makes the mutant. */
struct mutant {
    const char *name;
    bool *on;
    mutant *next;
    static mutant *first;
    mutant(const char *name, bool *on) : name(name), on(on), next(first)
    {
        first = this;
    }
};
mutant *mutant::first;

#define MUTANT(name)                                                                                                   \
    static bool mutant_##name;                                                                                         \
    static mutant change_##name(#name, &mutant_##name);

/* To be followed by #undef LABEL and #define LABEL order_LABEL, before the .c file that uses it. */
#define LABEL(name)                                                                                                    \
    static rl::memory_order order_##name = name;                                                                       \
    static label label_##name(#name, &order_##name);

static bool order_of_name(const char *name, rl::memory_order *order)
{
    static const struct {
        const char *name;
        rl::memory_order order;
    } orders[] = {{"relaxed", rl::mo_relaxed},
                  {"acquire", rl::mo_acquire},
                  {"release", rl::mo_release},
                  {"acq_rel", rl::mo_acq_rel},
                  {"seq_cst", rl::mo_seq_cst}};
    for (unsigned i = 0; i < 5; i++)
        if (strcmp(orders[i].name, name) == 0) {
            *order = orders[i].order;
            return true;
        }
    return false;
}

/* "LABEL=order", or a mutant's name */
static bool set_mutant(const char *argument)
{
    const char *equals = strchr(argument, '=');
    for (mutant *m = mutant::first; m != NULL; m = m->next)
        if (strcmp(m->name, argument) == 0)
            return *m->on = true;
    for (label *l = label::first; equals != NULL && l != NULL; l = l->next)
        if (strlen(l->name) == (size_t)(equals - argument) && strncmp(l->name, argument, strlen(l->name)) == 0)
            return order_of_name(equals + 1, l->order);
    return false;
}

/* A stream that keeps nothing: a string stream's memory would be mistaken for the model's. */
struct null_buffer : std::streambuf {
    int overflow(int c)
    {
        return c;
    }
};

/* Runs a model for so many random schedules. Exits with 0 when all were good, 1 when one was not (and says how), and 2 for a
 * wrong command line. FP_MODEL_HISTORY in the environment prints the schedule that failed. */
template <typename suite> static int run_model(int argc, char **argv)
{
    if (argc < 2 || atol(argv[1]) <= 0)
        return 2;
    for (int i = 2; i < argc; i++)
        if (!set_mutant(argv[i])) {
            fprintf(stderr, "no such label, order or mutant: %s\n", argv[i]);
            return 2;
        }
    null_buffer nowhere;
    std::ostream quiet(&nowhere);
    rl::test_params params;
    params.iteration_count = (rl::iteration_t)atol(argv[1]);
    params.search_type = rl::random_scheduler_type;
    params.execution_depth_limit = 10000; /* what is longer counts as a livelock; one schedule in a million has 5000 steps */
    params.progress_stream = &quiet;
    params.output_stream = getenv("FP_MODEL_HISTORY") != NULL ? (std::ostream *)&std::cout : &quiet;
    rl::simulate<suite>(params);
    if (params.test_result == rl::test_result_success)
        return 0;
    printf("%s, schedule %lu\n", rl::test_result_str(params.test_result), (unsigned long)params.stop_iteration);
    return 1;
}

#endif
