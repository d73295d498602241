"""The benchmark: bits per byte, speed and memory of nczip and its peers (docs/bench.md)."""
