"""What noise is: models of it, estimates and synthesis."""
