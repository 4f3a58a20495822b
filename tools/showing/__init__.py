"""The scenes of a data set as pictures, as a page, in a notebook and live: clouds, boxes, images, depth, and what does not fit."""
