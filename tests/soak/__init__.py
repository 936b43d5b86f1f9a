"""Hostile trials of all commands: `make soak`. docs/robustness.md explains the kinds."""
