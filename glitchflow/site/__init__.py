"""A cluster seen from outside: what would make a run fail there, and stages as its jobs."""
