"""Each stage in its plain form: short, slow and obviously right. Benches and tests compare the fast forms with these."""
