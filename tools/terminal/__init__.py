"""What every command says on the terminal: progress, tables, how much is said, and what ends a command."""
