"""The pure core: events in, actions out, time as a parameter."""
