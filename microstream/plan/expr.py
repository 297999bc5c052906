"""Column expressions: an inspectable tree of pandas' row-wise operations (seam; see Expr)."""
