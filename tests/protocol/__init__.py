"""A client that was written from docs/protocol.md alone: README.md."""
