"""The measurements behind `heal bench`, one module for each stage of a frame, for training and for a run on Ray."""
