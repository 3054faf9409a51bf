"""`make bench-sla`: what each policy is worth in the twin, on SABER's grid and standing loads."""
