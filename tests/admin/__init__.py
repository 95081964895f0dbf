"""The live page and `top`, as they are seen."""
