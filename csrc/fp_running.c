/* fp_running.c - the thread's own. */
#include "fp_running.h"

_Thread_local fp_running *fp_running_now;
