"""The collector with real senders: README.md."""
