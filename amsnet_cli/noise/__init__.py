"""What noise is: its level, whether it is white, its model, and how more of it is drawn."""
