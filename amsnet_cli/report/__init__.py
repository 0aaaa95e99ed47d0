"""Pages that show photos before and after."""
