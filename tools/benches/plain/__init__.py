"""The plain form of each stage: short, slow and obviously right. Benches and tests compare our fast form with it."""
