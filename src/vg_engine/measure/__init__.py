"""Work over whole data sets: finding heads, scoring them, ablations; it can be stopped anywhere."""
