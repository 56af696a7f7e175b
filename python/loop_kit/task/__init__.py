"""The tasks of a workspace: run where something has changed, restored where it is known, left alone otherwise.

| Module | |
| --- | --- |
| `_plan`, `_graph` | what tasks there are, and what comes before what |
| `_looks`, `_globs`, `_stat` | files: which count, and what is in them |
| `_key` | what a result depends on, and why one is not there |
| `_cache`, `_remote`, `_clean` | results, by key |
| `_run`, `_job`, `_command`, `_sandbox` | running |
| `_session`, `_state`, `_fresh` | one run, and what is known from one to the next |
"""
