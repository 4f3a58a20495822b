"""What there is in a town: streets, blocks, buildings, vehicles and their traffic."""
