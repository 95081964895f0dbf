"""Helpers that several suites share. scripts/support is a link to this folder, so that scripts find them, too."""
