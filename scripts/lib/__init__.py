"""Parts of the scripts in Python."""
