"""Find the first layer at which two networks differ, and what is wrong with it."""
