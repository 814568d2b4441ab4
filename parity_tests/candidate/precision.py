"""The types that a candidate may compute in. It has no imports: every command imports it."""

# How much more coarsely than float32 a type rounds. float32 has a significand of 24 bits, float16
# of 11, bfloat16 of 8. Rounding errors grow in proportion, and the gates widen their limits by it.
COARSENESS = {"float32": 1.0, "float64": 1.0, "float16": 2.0**13, "bfloat16": 2.0**16}
DTYPES = tuple(COARSENESS)


def answer_type(dtype: str) -> str:
    """Return NumPy's dtype for inputs and outputs of a candidate in `dtype`.

    It is float32 for narrower types: NumPy has no bfloat16.
    """
    return "float64" if dtype == "float64" else "float32"
