"""The world of a town: streets, blocks, buildings, street furniture, vehicles and traffic."""
