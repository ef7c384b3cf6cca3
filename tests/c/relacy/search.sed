# search.sed - fp_worker.c and fp_pool.c, to be wrong in one way at a time: when a mutant of search.cpp is on.
# Each mutant's name stands here once for each line that it changes; the Makefile counts them, so that none is lost unseen.

# K3 found work, and the worker forgets that others may have relied on the flag it has cleared.
/^static enum parked park/,/^}/{
/K3/,/return LOOK_AGAIN/s/searching = true/searching = !mutant_debt_forgotten/
}

# Who gives the flag up, having found work, does not look for more.
/^static void found_work/,/^}/s/hand_on(/if (!mutant_more_unlooked) &/

# Nobody was woken or started, and the flag is cleared, but not looked round again.
/^void fp_pool_wake/,/^}/s/fp_store(&pool->searching, 0, fp_seq_cst);/& if (mutant_failed_wake_returns) return;/

# K3 before K2.
/^static enum parked park/,/^}/{
/K2/s/fp_store/if (!mutant_cleared_after_look) &/
s/^    if (state != /    if (mutant_cleared_after_look) fp_store(\&pool->searching, 0, fp_seq_cst);\n&/
}

# Whoever is woken, or started, does not know that the flag has been set for it.
/the notifier set it for us/s/= true/= !mutant_notified_forgets/
/^int fp_worker_start/,/^}/s/searching = true/searching = !mutant_started_forgets/

# A worker that is set up hands its search on to nobody, or forgets, as after K3, or counts jobs by the ring's positions.
/^static void set_up/,/^}/{
s/if (has_work_for_more/if (!mutant_set_up_unlooked \&\& has_work_for_more/
s/searching = true/searching = !mutant_set_up_forgets/
}
/^static bool has_work_for_more/,/^}/s/    return overflowed/    if (mutant_sized_by_positions) return fp_queue_size(\&pool->queue) + overflowed > setting_up;\n&/

# A worker that leaves does not look any more; or looks before its place is to be had.
/^static void \*worker_main/,/^}/{
s/hand_on(/if (!mutant_left_unlooked) &/
s/fp_fetch_sub(&pool->running/if (!mutant_place_given_late) &/
s/fp_eventcount_notify_all/if (mutant_place_given_late) fp_fetch_sub(\&pool->running, 1, fp_seq_cst);\n    &/
}

# A worker counts before its thread has been started.
/^int fp_worker_start/,/^}/{
s/fp_fetch_add(&pool->running, 1, fp_seq_cst);/& if (mutant_counted_before_started) fp_fetch_add(\&pool->live, 1, fp_seq_cst);/
s/fp_fetch_sub(&pool->running, 1, fp_seq_cst);/& if (mutant_counted_before_started) fp_fetch_sub(\&pool->live, 1, fp_seq_cst);/
s/        fp_fetch_add(&pool->live/        if (!mutant_counted_before_started) fp_fetch_add(\&pool->live/
}

# The end of a pause wakes nobody; or where it is closing that ends it.
/^void fp_pool_resume/,/^}/s/        fp_pool_wake/        if (!mutant_resumed_unwoken) &/
/^void fp_pool_close/,/^}/s/fp_pool_resume/if (!mutant_closed_unwoken) &/

# A worker looks at the state after the queue: a pause that ended in between has hidden the jobs from it.
/^static enum parked park/,/^}/s/if (state != /if (mutant_pause_drains) state = fp_load(\&pool->state, fp_seq_cst);\n    &/

# A worker that leaves as one too many keeps `searching`; or is not counted out.
/^static bool leave_surplus/,/^}/s/stop_searching(/if (!mutant_surplus_keeps_search) &/
/^static bool count_out/,/^}/s/fp_fetch_sub/if (!mutant_surplus_uncounted) &/

# The pool has grown, and nobody is woken for what is queued.
/^bool fp_pool_resize/,/^}/s/fp_pool_wake/if (!mutant_resized_unwoken) &/

# A worker that stops taking part in a range closes it.
/^static void range_done/,/^}/s/worker->yields/!mutant_yield_closes \&\& &/
