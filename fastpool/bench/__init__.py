"""What ``python -m fastpool bench`` measures, and how.

The journey of a figure: `sections` lists what is measured; `python_jobs`, `options` and
`memory` build the cases, from the workloads in `jobs` and `black_scholes` and the peers in
`peers`; `measure` runs and checks them, `report` holds what came out, and `table` and `plot`
show it.
"""
