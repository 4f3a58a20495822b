"""The parts of `heal compare`: what is compared, what is trained and evaluated for it, and the report of the results."""
