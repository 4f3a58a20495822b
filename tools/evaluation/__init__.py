"""The parts of `heal evaluate`: what is run, how, and what is written of it."""
