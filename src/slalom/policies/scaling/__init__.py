"""Scaling policies: how many replicas each model has.

Owns nothing itself: the rules by counts are in `by_count`, CATO's in `by_target`, Slalom's own in
`forecast` on top of `replay`. Read through `slalom.policies.registry`.
"""
