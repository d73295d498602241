"""Everything that is learnt before nczip is shipped, by scripts that anyone can run again."""
