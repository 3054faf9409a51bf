"""`plan-and-trim`, Slalom's own policy: plan what runs and waits, trim what makes others late.

`plan_and_trim` holds the options and `planner` the decisions of one scheduler. Below it: `jobs`
(requests as a plan sees them), `pace` and `track` (a replica's token clock), `forecast` (when jobs
would end) and `fitting` (who runs, who waits for a place, who gives way). All pure.
"""
