"""Who has sent a message: keys, signed envelopes, the list of allowed senders, and the check of what is received."""
