"""The tables by other readers and clients."""
