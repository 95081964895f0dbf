"""Analyses against other programs."""
