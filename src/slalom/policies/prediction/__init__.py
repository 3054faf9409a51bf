"""What a planner expects of engines and answers, learned from nothing but observations.

Owns step times (`step_cost`), output lengths (`lengths`), how far to trust both (`margins`), and
the one object that joins them (`predictor`). Pure and deterministic. Used by planners.
"""
