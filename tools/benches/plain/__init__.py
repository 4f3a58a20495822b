"""The plain form of each stage: short, obviously right, and made of what most people would take; benches and tests compare."""
