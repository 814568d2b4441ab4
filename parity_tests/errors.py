"""What goes wrong while two sides are compared."""

from converter.errors import FacenetError


class ParityError(FacenetError):
    """No verdict could be reached: something is missing, damaged, unsafe or does not fit.

    A candidate that was run and found different is not an error; that is a
    `parity_tests.first_parity.FirstParity` whose `passed` is False. The message names the file,
    what was expected, what was found, and what to do next; it is meant to be printed as it is.
    """
