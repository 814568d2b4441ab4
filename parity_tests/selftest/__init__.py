"""Plant defects in a correct candidate, one at a time, and count which gates find them."""
