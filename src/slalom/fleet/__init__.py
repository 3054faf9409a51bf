"""A server in parts on several machines: stateless ingresses, one core, engines as actors of Ray.

Owns what lies between those parts; the scheduler, the runtime and the gateway are the ones of the
single machine. Only the modules named `ray_*` and `serving` know Ray, which is an extra.
"""
