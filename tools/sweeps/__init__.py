"""What `heal sweep` varies, and the work of one of its processes."""
