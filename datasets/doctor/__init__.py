"""What is wrong with a data set: every scene is read through the interface of all data sets, and judged."""
