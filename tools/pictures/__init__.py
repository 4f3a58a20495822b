"""A tick seen from above, as pictures and animations."""
