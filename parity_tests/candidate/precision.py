"""The types that a candidate may compute in. No imports: the command line reads it at its start."""

# How much more coarsely than float32, with its 24 bits, a type rounds: it has 11 bits, or 8. Errors
# of rounding grow in proportion, and with them what is demanded of a candidate in that type.
COARSENESS = {"float32": 1.0, "float64": 1.0, "float16": 2.0**13, "bfloat16": 2.0**16}
DTYPES = tuple(COARSENESS)


def answer_type(dtype: str) -> str:
    """NumPy's type for what a candidate in `dtype` is fed and answers: NumPy has no bfloat16."""
    return "float64" if dtype == "float64" else "float32"
