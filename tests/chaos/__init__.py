"""Everything at once, at random: ``python -m chaos`` in this folder's parent, or ``make soak``.

A round makes a pool of random settings (`settings`), lets several actors (`actor`) do at random what can be done with it
(`ways`, `natives`, `grouping`, `looping`, `meddling`, `forks`), with jobs that do what jobs do (`bodies`), ends it in some way
(`endings`), and then asks whether all that was promised was kept (`ledger`, `process`). `rounds` puts these together.

Each actor, and each job, decides by a generator of random numbers of its own, made from the seed, the round and its name: so
two runs of a seed try the same things, though the threads never run in the same order twice.
"""
