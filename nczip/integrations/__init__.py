"""nczip inside of other projects' tools; each module needs the extra of its name."""
