"""Faults and attacks against the real server: README.md."""
