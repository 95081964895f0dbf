"""The steps of scripts/check-deploy."""
