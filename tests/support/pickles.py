"""A pickle that shows whether it was read."""


class Touches:
    """An object whose pickle makes a file where it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).touch, (self.path,)
