"""What to do about a plan that runs when its load, its lengths or its devices have changed."""
