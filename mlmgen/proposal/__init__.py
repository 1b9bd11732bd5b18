"""What the columns of an unknown data set probably are: donor, condition, cell type, and the design they make."""
